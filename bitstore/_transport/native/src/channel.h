/* A socket that never blocks, and TLS on top of it. */
#ifndef BITSTORE_CHANNEL_H
#define BITSTORE_CHANNEL_H

#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CHANNEL_WAIT (-1) /* nothing can be done before the socket has something new */
#define CHANNEL_ERROR (-2)

/* A server that another transport has reached. */
struct address {
    struct sockaddr_storage socket;
    socklen_t size; /* 0: unknown */
};

/* False: `text` is no address of IPv4 or IPv6. */
bool address_read(struct address *address, const char *text, int port);

/* Trust of servers as libcurl has it; NULL: the file or folder cannot be used. */
SSL_CTX *trust_new(const char *file, const char *folder);

struct channel {
    int fd;   /* -1: closed */
    SSL *ssl; /* NULL: plain HTTP */
    bool connected;
    bool over; /* whether the server has ended what TLS is carried by */
    int error; /* of the system, behind the last CHANNEL_ERROR; 0: TLS failed */
};

/* Begin to connect; `channel` stays where it is. `server_name`: in the certificate; `session`: to be resumed, or NULL. False: no connection. */
bool channel_dial(struct channel *channel, const struct address *address, SSL_CTX *trust, const char *server_name,
                  SSL_SESSION *session);

/* Get on with connecting: 1 when bytes can be sent, CHANNEL_WAIT, CHANNEL_ERROR. */
int channel_ready(struct channel *channel);

/* Bytes sent or read, CHANNEL_WAIT, CHANNEL_ERROR; 0 from `channel_read`: the server has ended the connection. */
ssize_t channel_send(struct channel *channel, const char *data, size_t size);
ssize_t channel_read(struct channel *channel, char *data, size_t size);

/* Whether the server has neither closed the connection nor sent anything that was not asked for. */
bool channel_quiet(struct channel *channel);

/* Close without a goodbye: a forked child may close what its parent uses. */
void channel_close(struct channel *channel);

#endif
