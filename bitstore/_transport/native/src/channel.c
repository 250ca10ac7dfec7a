#include "channel.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* macOS: SO_NOSIGPIPE, below */
#endif

#ifndef SOCK_CLOEXEC
#define SOCK_CLOEXEC 0 /* macOS: FD_CLOEXEC, below */
#endif

#define SECURITY 2 /* no keys below 112 bits, no SHA-1: releases of OpenSSL differ, and libcurl may have the newest */

bool address_read(struct address *address, const char *text, int port) {
    memset(address, 0, sizeof *address);
    if (port < 1 || port > 65535)
        return false;
    struct sockaddr_in *four = (struct sockaddr_in *)&address->socket;
    if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons((uint16_t)port);
        address->size = sizeof *four;
        return true;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)&address->socket;
    if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        address->size = sizeof *six;
        return true;
    }
    return false;
}

/* What TLS is sent and received by. OpenSSL's own writes without MSG_NOSIGNAL: where a program has not ignored SIGPIPE, a
   server that hangs up would end its process. */

static int carrier_write(BIO *carrier, const char *data, int size) {
    struct channel *channel = BIO_get_data(carrier);
    BIO_clear_retry_flags(carrier);
    ssize_t sent = send(channel->fd, data, (size_t)size, MSG_NOSIGNAL);
    if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_write(carrier);
    return (int)sent;
}

static int carrier_read(BIO *carrier, char *data, int size) {
    struct channel *channel = BIO_get_data(carrier);
    BIO_clear_retry_flags(carrier);
    errno = 0; /* else OpenSSL 1.1 reports the last one where the server has ended the connection */
    ssize_t got = recv(channel->fd, data, (size_t)size, 0);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_retry_read(carrier);
    if (!got && size)
        channel->over = true;
    return (int)got;
}

static long carrier_control(BIO *carrier, int what, long number, void *pointer) {
    (void)number, (void)pointer;
    if (what == BIO_CTRL_EOF)
        return ((struct channel *)BIO_get_data(carrier))->over;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *carrier_method; /* made with the first trust, under the GIL */

static bool carrier_known(void) {
    if (carrier_method)
        return true;
    BIO_METHOD *method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "a socket without signals");
    if (method && BIO_meth_set_write(method, carrier_write) && BIO_meth_set_read(method, carrier_read) &&
        BIO_meth_set_ctrl(method, carrier_control)) {
        carrier_method = method;
        return true;
    }
    BIO_meth_free(method);
    return false;
}

/* Give a carrier to TLS. */
static bool carried(SSL *ssl, struct channel *channel) {
    BIO *carrier = BIO_new(carrier_method);
    if (!carrier)
        return false;
    BIO_set_data(carrier, channel);
    BIO_set_init(carrier, 1);
    SSL_set_bio(ssl, carrier, carrier); /* which frees it */
    return true;
}

SSL_CTX *trust_new(const char *file, const char *folder) {
    static const unsigned char protocols[] = "\x08http/1.1";
    SSL_CTX *trust = carrier_known() ? SSL_CTX_new(TLS_client_method()) : NULL;
    if (!trust)
        return NULL;
    /* As libcurl: any certificate of the bundle is trusted, a root or not, and X.509 is not taken strictly. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(trust), X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(trust, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_get_security_level(trust) < SECURITY)
        SSL_CTX_set_security_level(trust, SECURITY);
    SSL_CTX_set_options(trust, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(trust, SSL_MODE_RELEASE_BUFFERS);
    /* Sessions are kept by each origin, and not in a store that all threads share. */
    SSL_CTX_set_session_cache_mode(trust, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    if (SSL_CTX_set_min_proto_version(trust, TLS1_2_VERSION) && SSL_CTX_load_verify_locations(trust, file, folder) &&
        !SSL_CTX_set_alpn_protos(trust, protocols, sizeof protocols - 1))
        return trust;
    SSL_CTX_free(trust);
    ERR_clear_error();
    return NULL;
}

static bool is_address(const char *name) {
    unsigned char scratch[16];
    return inet_pton(AF_INET, name, scratch) == 1 || inet_pton(AF_INET6, name, scratch) == 1;
}

/* TLS for a server of this name. NULL: it cannot be had. */
static SSL *secured(struct channel *channel, SSL_CTX *trust, const char *name, SSL_SESSION *session) {
    SSL *ssl = SSL_new(trust);
    if (!ssl)
        return NULL;
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bool done;
    if (is_address(name)) {
        done = X509_VERIFY_PARAM_set1_ip_asc(param, name);
    } else {
        /* Where there is a common name alone, libcurl takes the last one, and OpenSSL any: such a server is libcurl's. */
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        done = X509_VERIFY_PARAM_set1_host(param, name, 0) && SSL_set_tlsext_host_name(ssl, name);
    }
    if (done && session)
        SSL_set_session(ssl, session); /* that it is resumed is not needed */
    if (done && carried(ssl, channel)) {
        SSL_set_connect_state(ssl);
        return ssl;
    }
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

bool channel_dial(struct channel *channel, const struct address *address, SSL_CTX *trust, const char *server_name,
                  SSL_SESSION *session) {
    int one = 1;
    *channel = (struct channel){.fd = socket(address->socket.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    if (channel->fd < 0)
        return false;
    if (fcntl(channel->fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(channel->fd, F_SETFL, O_NONBLOCK) < 0)
        goto fail;
    setsockopt(channel->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(channel->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
#ifdef SO_NOSIGPIPE
    setsockopt(channel->fd, SOL_SOCKET, SO_NOSIGPIPE, &one, sizeof one);
#endif
    if (connect(channel->fd, (const struct sockaddr *)&address->socket, address->size) && errno != EINPROGRESS)
        goto fail;
    if (trust && !(channel->ssl = secured(channel, trust, server_name, session)))
        goto fail;
    return true;
fail:
    channel_close(channel);
    return false;
}

/* The outcome of a call of OpenSSL that returned `result`. */
static ssize_t tls_outcome(struct channel *channel, int result) {
    int error = SSL_get_error(channel->ssl, result);
    channel->error = error == SSL_ERROR_SYSCALL ? errno : 0;
    ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
        return CHANNEL_WAIT;
    return error == SSL_ERROR_ZERO_RETURN ? 0 : CHANNEL_ERROR;
}

int channel_ready(struct channel *channel) {
    if (!channel->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        struct sockaddr_storage peer;
        socklen_t peer_size = sizeof peer;
        if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &size) || error)
            return CHANNEL_ERROR;
        if (getpeername(channel->fd, (struct sockaddr *)&peer, &peer_size))
            return CHANNEL_WAIT;
        channel->connected = true;
    }
    if (!channel->ssl || SSL_is_init_finished(channel->ssl))
        return 1;
    ERR_clear_error();
    int result = SSL_do_handshake(channel->ssl);
    if (result != 1)
        return tls_outcome(channel, result) == CHANNEL_WAIT ? CHANNEL_WAIT : CHANNEL_ERROR;
    return SSL_get_verify_result(channel->ssl) == X509_V_OK ? 1 : CHANNEL_ERROR;
}

ssize_t channel_send(struct channel *channel, const char *data, size_t size) {
    if (channel->ssl) {
        ERR_clear_error();
        int sent = SSL_write(channel->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
        if (sent > 0)
            return sent;
        ssize_t outcome = tls_outcome(channel, sent);
        return outcome ? outcome : CHANNEL_ERROR;
    }
    ssize_t sent = send(channel->fd, data, size, MSG_NOSIGNAL);
    if (sent >= 0)
        return sent;
    channel->error = errno;
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? CHANNEL_WAIT : CHANNEL_ERROR;
}

ssize_t channel_read(struct channel *channel, char *data, size_t size) {
    if (channel->ssl) {
        ERR_clear_error();
        int got = SSL_read(channel->ssl, data, size > INT_MAX ? INT_MAX : (int)size);
        return got > 0 ? got : tls_outcome(channel, got);
    }
    ssize_t got;
    do
        got = recv(channel->fd, data, size, 0);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return got;
    channel->error = errno;
    return errno == EAGAIN || errno == EWOULDBLOCK ? CHANNEL_WAIT : CHANNEL_ERROR;
}

bool channel_quiet(struct channel *channel) {
    char byte;
    return channel_read(channel, &byte, 1) == CHANNEL_WAIT;
}

void channel_close(struct channel *channel) {
    if (channel->ssl) {
        SSL_set_quiet_shutdown(channel->ssl, 1);
        SSL_free(channel->ssl);
        channel->ssl = NULL;
    }
    if (channel->fd >= 0)
        close(channel->fd);
    channel->fd = -1;
}
