#include "group.h"

#include <errno.h>
#include <math.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define EVENTS 256
#define READINGS 64            /* one after another, of one connection: others want to be heard as well */
#define PIECE (256 * 1024)     /* bytes of one reading: what is hashed next is still in the processor's cache */
#define ERROR_BYTES (64 * 1024) /* of the body of an error */
#define CHUNKED_BYTES (16 * 1024 * 1024) /* of a body whose length is not told */
#define FIRST_LARGE (256 * 1024 * 1024) /* bytes of memory for a body, before so many have come */
#define TRICKLE 100            /* bytes a second: less is no progress */
#define LONGEST_IDLE 60.0      /* seconds: something on the way may have forgotten the connection, without a word */
#define WATCH 0.5              /* seconds between two looks at the time limits */
#define SPARE_BUFFERS 64
#define BUSY 8 /* jobs carried: with so many, one that has ended waits a little for others to go with it */

enum state { CONNECTING, ASKED, IDLE };

struct connection {
    struct channel channel;
    struct origin *origin;
    struct job *job;
    struct connection *next, *before;           /* of the group */
    struct connection *idle_next, *idle_before; /* of the origin */
    struct connection *more;                    /* that may have more to say, or are closed */
    enum state state;
    bool used;     /* whether it has carried a job to its end */
    bool speaking; /* whether it is among those that may have more to say */
    double since;  /* idle, dialled or with progress: seconds on `group_now` */
    size_t moved;  /* bytes of the job's answer by then */
    bool watched;  /* whether `since` counts for this job */
};

struct jobs {
    struct job *first, *last;
    size_t count;
};

struct group {
    int epoll;
    struct jobs queue, ended, wanting;
    size_t carried, count; /* jobs, connections */
    struct connection *connections, *speaking, *closed;
    struct origin *origins;
    char *buffers[SPARE_BUFFERS];
    size_t spare;
    char *message;
    size_t message_capacity;
    EVP_MD_CTX *context;
    const EVP_MD *digests[ALGORITHMS];
    double now, watch_at;
    size_t most;     /* connections */
    bool unfinished; /* whether the last step was left before it had heard all */
};

double group_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Lists of jobs */

static void append(struct jobs *jobs, struct job *job) {
    job->list = jobs;
    job->next = NULL;
    job->before = jobs->last;
    *(jobs->last ? &jobs->last->next : &jobs->first) = job;
    jobs->last = job;
    jobs->count++;
}

static void take_out(struct job *job) {
    struct jobs *jobs = job->list;
    if (!jobs)
        return;
    *(job->before ? &job->before->next : &jobs->first) = job->next;
    *(job->next ? &job->next->before : &jobs->last) = job->before;
    job->list = NULL;
    jobs->count--;
}

static struct job *take_first(struct jobs *jobs) {
    struct job *job = jobs->first;
    if (job)
        take_out(job);
    return job;
}

/* Origins */

struct origin *origin_new(SSL_CTX *trust, const char *server_name) {
    struct origin *origin = calloc(1, sizeof *origin);
    if (!origin)
        return NULL;
    origin->holders = 1;
    origin->server_name = strdup(server_name ? server_name : "");
    if (!origin->server_name) {
        free(origin);
        return NULL;
    }
    if (trust)
        SSL_CTX_up_ref(origin->trust = trust);
    return origin;
}

void origin_drop(struct origin *origin) {
    if (atomic_fetch_sub(&origin->holders, 1) > 1)
        return;
    SSL_SESSION_free(origin->session);
    SSL_CTX_free(origin->trust);
    free(origin->server_name);
    free(origin);
}

static struct origin *hold(struct origin *origin) {
    atomic_fetch_add(&origin->holders, 1);
    return origin;
}

/* Connections */

static void idle_remove(struct connection *connection) {
    if (connection->state != IDLE)
        return;
    *(connection->idle_before ? &connection->idle_before->idle_next : &connection->origin->idle) = connection->idle_next;
    if (connection->idle_next)
        connection->idle_next->idle_before = connection->idle_before;
    connection->idle_next = connection->idle_before = NULL;
}

static void idle_add(struct connection *connection) {
    struct origin *origin = connection->origin;
    connection->state = IDLE;
    connection->idle_before = NULL;
    connection->idle_next = origin->idle;
    if (origin->idle)
        origin->idle->idle_before = connection;
    origin->idle = connection;
}

/* Close a connection that carries nothing any more. Its memory is freed later: events of it may be at hand. */
static void shut(struct group *group, struct connection *connection) {
    idle_remove(connection);
    channel_close(&connection->channel);
    *(connection->before ? &connection->before->next : &group->connections) = connection->next;
    if (connection->next)
        connection->next->before = connection->before;
    group->count--;
    if (!connection->speaking) { /* else it is freed by the list that has it */
        connection->more = group->closed;
        group->closed = connection;
    }
}

static void free_closed(struct group *group) {
    while (group->closed) {
        struct connection *connection = group->closed;
        group->closed = connection->more;
        origin_drop(connection->origin);
        free(connection);
    }
}

static void shut_idle_of(struct group *group, struct origin *origin) {
    while (origin->idle)
        shut(group, origin->idle);
}

void group_trim(struct group *group, size_t most) {
    for (struct origin *origin = group->origins; origin && group->count > most; origin = origin->next)
        while (origin->idle && group->count > most)
            shut(group, origin->idle);
}

static struct connection *dial(struct group *group, struct origin *origin) {
    if (!origin->address.size || group->now >= origin->known_until)
        return NULL;
    if (group->count >= group->most) {
        group_trim(group, group->most ? group->most - 1 : 0);
        if (group->count >= group->most)
            return NULL;
    }
    struct connection *connection = calloc(1, sizeof *connection);
    if (!connection)
        return NULL;
    if (!channel_dial(&connection->channel, &origin->address, origin->trust, origin->server_name, origin->session)) {
        free(connection);
        return NULL;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = connection}};
    if (epoll_ctl(group->epoll, EPOLL_CTL_ADD, connection->channel.fd, &event)) {
        channel_close(&connection->channel);
        free(connection);
        return NULL;
    }
    connection->origin = hold(origin);
    connection->state = CONNECTING;
    connection->next = group->connections;
    if (group->connections)
        group->connections->before = connection;
    group->connections = connection;
    group->count++;
    return connection;
}

/* A kept connection that can carry a job, or NULL. */
static struct connection *kept(struct group *group, struct origin *origin) {
    while (origin->idle) {
        struct connection *connection = origin->idle;
        if (group->now - connection->since < LONGEST_IDLE && channel_quiet(&connection->channel)) {
            idle_remove(connection);
            connection->state = ASKED;
            return connection;
        }
        shut(group, connection);
    }
    return NULL;
}

/* Jobs */

static void forget_answer(struct group *group, struct job *job) {
    if (job->small) {
        if (job->capacity == GROUP_SMALL && group->spare < SPARE_BUFFERS)
            group->buffers[group->spare++] = job->small;
        else
            free(job->small);
    }
    job->small = NULL;
    job->capacity = job->received = job->body = job->digest_size = 0;
    job->head = (struct head){0};
    job->chunks = (struct chunks){0};
    EVP_MD_CTX_free(job->hashing);
    job->hashing = NULL;
}

void job_free(struct group *group, struct job *job) {
    forget_answer(group, job);
    origin_drop(job->origin);
    free(job->message);
    free(job);
}

/* `job` is carried no more. */
static void release(struct group *group, struct job *job) {
    if (!job->connection)
        return;
    job->connection->job = NULL;
    job->connection = NULL;
    group->carried--;
}

static void end(struct group *group, struct job *job, enum outcome outcome) {
    release(group, job);
    take_out(job);
    job->outcome = outcome;
    append(&group->ended, job);
}

static void carry(struct group *group, struct job *job, bool fresh);

/* The connection of a job is of no use any more: the outcome, or another connection. */
static void fail(struct group *group, struct connection *connection, enum outcome outcome, int error) {
    struct job *job = connection->job;
    /* Nothing has come on a connection that was used: the server has closed it, and may not have seen the request. By a
       new connection: if it is this request that the server hangs up at, it would do so at all kept ones. */
    bool stale = (outcome == CUT || outcome == BROKEN) && connection->used && job && !job->received;
    if (job) {
        release(group, job);
        take_out(job);
    }
    shut(group, connection);
    if (!job)
        return;
    if (stale) {
        carry(group, job, true);
        return;
    }
    if (outcome == UNREACHABLE || outcome == UNCLEAR)
        shut_idle_of(group, job->origin);
    job->error = error;
    end(group, job, outcome);
}

static void ask(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    const char *message = job->message;
    size_t size = job->message_size;
    if (job->sheet) {
        size = sheet_message_size(job->sheet, job->message_size);
        if (size > group->message_capacity) {
            char *more = realloc(group->message, size);
            if (!more) {
                fail(group, connection, DECLINED, 0);
                return;
            }
            group->message = more;
            group->message_capacity = size;
        }
        if (sheet_write(job->sheet, group->context, job->message, job->message_size, group->message)) {
            fail(group, connection, DECLINED, 0);
            return;
        }
        message = group->message;
    }
    connection->state = ASKED;
    connection->watched = false;
    ssize_t sent = channel_send(&connection->channel, message, size);
    if (sent == (ssize_t)size)
        return;
    /* Nothing was under way, so there is room for a few hundred bytes, or something is odd. */
    fail(group, connection, sent < 0 && connection->used ? BROKEN : UNREACHABLE, connection->channel.error);
}

static void speak(struct group *group, struct connection *connection) {
    if (connection->speaking)
        return;
    connection->speaking = true;
    connection->more = group->speaking;
    group->speaking = connection;
}

static void carry(struct group *group, struct job *job, bool fresh) {
    struct connection *connection = fresh ? NULL : kept(group, job->origin);
    bool connected = connection != NULL;
    if (!connection && !(connection = dial(group, job->origin))) {
        end(group, job, DECLINED);
        return;
    }
    connection->job = job;
    connection->watched = false;
    job->connection = connection;
    group->carried++;
    if (connected)
        ask(group, connection);
}

/* Reading */

static bool hash(struct group *group, struct job *job) {
    unsigned size = 0;
    const EVP_MD *md = group->digests[job->algorithm];
    if (!md)
        return false;
    if (job->hashing) {
        if (!EVP_DigestFinal_ex(job->hashing, job->digest, &size))
            return false;
    } else {
        if (!EVP_DigestInit_ex(group->context, md, NULL) ||
            !EVP_DigestUpdate(group->context, job->small + job->head.size, job->body) ||
            !EVP_DigestFinal_ex(group->context, job->digest, &size))
            return false;
    }
    job->digest_size = size;
    return true;
}

/* Keep the TLS session of a connection for the next one. */
static void keep_session(struct connection *connection) {
    SSL_SESSION *session = connection->channel.ssl ? SSL_get1_session(connection->channel.ssl) : NULL;
    if (session && SSL_SESSION_is_resumable(session)) {
        SSL_SESSION_free(connection->origin->session);
        connection->origin->session = session;
    } else {
        SSL_SESSION_free(session);
    }
}

static void complete(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    bool last = job->head.last;
    if (!connection->used)
        keep_session(connection);
    if (job->algorithm && job->head.status == 200)
        hash(group, job); /* without: the caller does */
    end(group, job, ANSWERED);
    connection->used = true;
    if (last || (connection->channel.ssl && SSL_has_pending(connection->channel.ssl)) || connection->origin->unused) {
        shut(group, connection);
        return;
    }
    connection->since = group->now;
    idle_add(connection);
}

/* Begin with the body, whose head is whole. False: the job has failed. */
static bool begin_body(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    int64_t length = job->head.length, most = job->origin->most;
    enum outcome outcome = ANSWERED;
    if (job->head.status >= 300 && length > ERROR_BYTES)
        outcome = DECLINED;
    else if (job->head.status < 300 && most && length > most)
        outcome = TOO_LARGE;
    if (outcome) {
        fail(group, connection, outcome, 0);
        return false;
    }
    return true;
}

/* Whether the body is of the memory that the caller gives. */
static bool is_large(const struct job *job) {
    return job->head.length > 0 && (uint64_t)job->head.length > job->capacity - job->head.size;
}

static void want(struct group *group, struct job *job) { append(&group->wanting, job); }

/* Count `size` bytes of the body, which are in their place. False: the connection is not to be read any further. */
static bool take_body(struct group *group, struct connection *connection, size_t size) {
    struct job *job = connection->job;
    if (job->head.length == BODY_CHUNKED) {
        size_t used, part;
        enum reading reading = chunks_take(&job->chunks, job->small + job->head.size + job->body, size, &used, &part);
        job->body += part;
        bool error = job->head.status >= 300;
        size_t most = error ? ERROR_BYTES : CHUNKED_BYTES;
        if (reading == READING_UNCLEAR)
            fail(group, connection, UNCLEAR, 0);
        else if (!error && job->origin->most && job->body > (uint64_t)job->origin->most)
            fail(group, connection, TOO_LARGE, 0);
        else if (job->body > most)
            fail(group, connection, DECLINED, 0);
        else if (reading == READING_WHOLE) {
            job->head.last |= used < size; /* nothing asked for what follows */
            complete(group, connection);
        } else
            return true;
        return false;
    }
    uint64_t left = (uint64_t)job->head.length - job->body;
    if (size > left) {
        job->head.last = true;
        size = (size_t)left;
    }
    if (job->hashing && !EVP_DigestUpdate(job->hashing, job->large + job->body, size)) {
        fail(group, connection, DECLINED, 0);
        return false;
    }
    job->body += size;
    if (job->body == (uint64_t)job->head.length) {
        complete(group, connection);
        return false;
    }
    if (is_large(job) && job->body == job->large_size) {
        want(group, job);
        return false;
    }
    return true;
}

/* Where the next bytes of the answer go. NULL: no memory. */
static char *room(struct group *group, struct job *job, size_t *size) {
    if (job->large) {
        *size = job->large_size - job->body;
        return job->large + job->body;
    }
    if (!job->small) {
        job->small = group->spare ? group->buffers[--group->spare] : malloc(GROUP_SMALL);
        if (!job->small)
            return NULL;
        job->capacity = GROUP_SMALL;
    }
    size_t at = job->head.status ? job->head.size + job->body : job->received;
    if (job->capacity - at < 1024 && job->head.length == BODY_CHUNKED) {
        char *more = realloc(job->small, job->capacity * 2); /* bounded: see CHUNKED_BYTES */
        if (!more)
            return NULL;
        job->small = more;
        job->capacity *= 2;
    }
    *size = job->capacity - at;
    return job->small + at;
}

/* Take what the server has sent, once. False: the connection is not to be read any further. */
static bool read_once(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    size_t size;
    char *place = room(group, job, &size);
    if (!place || !size) {
        fail(group, connection, place ? UNCLEAR : DECLINED, 0);
        return false;
    }
    ssize_t got = channel_read(&connection->channel, place, size > PIECE ? PIECE : size);
    if (got == CHANNEL_WAIT)
        return false;
    if (got <= 0) {
        fail(group, connection, got ? BROKEN : CUT, connection->channel.error);
        return false;
    }
    job->received += (size_t)got;
    if (job->head.status)
        return take_body(group, connection, (size_t)got);
    struct head head;
    switch (head_read(job->small, job->received, &head)) {
    case READING_MORE:
        return true;
    case READING_UNCLEAR:
        fail(group, connection, UNCLEAR, 0);
        return false;
    default:
        job->head = head;
    }
    if (!begin_body(group, connection))
        return false;
    if (is_large(job)) {
        want(group, job);
        return false;
    }
    return take_body(group, connection, job->received - head.size);
}

static void hear(struct group *group, struct connection *connection) {
    if (connection->channel.fd < 0)
        return; /* it was closed just now */
    if (connection->state == IDLE) {
        if (!channel_quiet(&connection->channel)) /* closed by the server, or it sends what nothing asked for */
            shut(group, connection);
        return;
    }
    if (connection->state == CONNECTING) {
        int ready = channel_ready(&connection->channel);
        if (ready == CHANNEL_ERROR)
            fail(group, connection, UNREACHABLE, connection->channel.error);
        if (ready != 1)
            return;
        ask(group, connection);
        if (connection->channel.fd < 0)
            return;
    }
    struct job *job = connection->job;
    if (!job || job->list == &group->wanting)
        return;
    for (int i = 0; i < READINGS; i++)
        if (!read_once(group, connection))
            return;
    speak(group, connection);
}

/* Time limits */

static bool stalled(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    size_t moved = job->received;
    double passed = group->now - connection->since;
    if (!connection->watched ||
        (double)(moved - connection->moved) >= TRICKLE * (passed > 1.0 ? passed : 1.0)) {
        connection->watched = true;
        connection->since = group->now;
        connection->moved = moved;
    }
    return group->now - connection->since >= job->origin->stall_timeout;
}

static void watch(struct group *group) {
    struct connection *connection, *next;
    for (connection = group->connections; connection; connection = next) {
        next = connection->next;
        if (connection->state == IDLE || !connection->job)
            continue;
        if (connection->state == CONNECTING) {
            if (!connection->watched) {
                connection->watched = true;
                connection->since = group->now;
            } else if (group->now - connection->since >= connection->origin->connect_timeout) {
                fail(group, connection, UNREACHABLE, 0);
                next = group->connections; /* others may have been closed as well: from the beginning */
            }
        } else if (stalled(group, connection)) {
            fail(group, connection, STALLED, 0);
            next = group->connections;
        }
    }
    for (struct origin **place = &group->origins; *place;) {
        struct origin *origin = *place;
        if (!origin->unused) {
            place = &origin->next;
            continue;
        }
        shut_idle_of(group, origin);
        *place = origin->next;
        origin->listed = false;
        origin_drop(origin);
    }
}

/* What the caller sees */

static const char *const digest_names[ALGORITHMS] = {NULL, "MD5", "SHA1", "SHA256", "SHA512"};

/* OpenSSL 3 looks for the implementation with each use of a digest that was not fetched. */
static const EVP_MD *digest_get(const char *name) {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    const EVP_MD *digest = name ? EVP_MD_fetch(NULL, name, NULL) : NULL;
    ERR_clear_error();
    return digest;
#else
    return name ? EVP_get_digestbyname(name) : NULL;
#endif
}

static void digest_drop(const EVP_MD *digest) {
#if OPENSSL_VERSION_NUMBER >= 0x30000000L
    EVP_MD_free((EVP_MD *)digest);
#else
    (void)digest;
#endif
}

struct group *group_new(void) {
    struct group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    group->epoll = epoll_create1(EPOLL_CLOEXEC);
    group->context = EVP_MD_CTX_new();
    for (enum algorithm algorithm = NO_DIGEST; algorithm < ALGORITHMS; algorithm++)
        group->digests[algorithm] = digest_get(digest_names[algorithm]);
    if (group->epoll >= 0 && group->context)
        return group;
    group_free(group, NULL);
    return NULL;
}

void group_free(struct group *group, void (*released)(void *token)) {
    struct jobs *const lists[] = {&group->queue, &group->ended, &group->wanting};
    while (group->connections) {
        struct connection *connection = group->connections;
        struct job *job = connection->job;
        if (job) {
            release(group, job);
            take_out(job);
            append(&group->ended, job);
        }
        shut(group, connection);
    }
    while (group->speaking) {
        struct connection *connection = group->speaking;
        group->speaking = connection->more;
        connection->more = group->closed;
        group->closed = connection;
    }
    free_closed(group);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        while (lists[i]->first) {
            struct job *job = take_first(lists[i]);
            if (released)
                released(job->token);
            job_free(group, job);
        }
    while (group->origins) {
        struct origin *origin = group->origins;
        group->origins = origin->next;
        origin->listed = false;
        origin_drop(origin);
    }
    while (group->spare)
        free(group->buffers[--group->spare]);
    free(group->message);
    EVP_MD_CTX_free(group->context);
    for (enum algorithm algorithm = NO_DIGEST; algorithm < ALGORITHMS; algorithm++)
        digest_drop(group->digests[algorithm]);
    if (group->epoll >= 0)
        close(group->epoll);
    free(group);
}

int group_fd(const struct group *group) { return group->epoll; }
size_t group_connections(const struct group *group) { return group->count; }
size_t group_queued(const struct group *group) { return group->queue.count; }
size_t group_carried(const struct group *group) { return group->carried; }

struct job *group_begin(struct group *group, const struct job *wanted) {
    struct job *job = malloc(sizeof *job);
    if (!job)
        return NULL;
    *job = *wanted;
    hold(job->origin);
    if (!job->origin->listed) {
        job->origin->listed = true;
        job->origin->next = group->origins;
        group->origins = hold(job->origin);
    }
    append(&group->queue, job);
    group->unfinished = true;
    return job;
}

void group_abandon(struct group *group, struct job *job) {
    struct connection *connection = job->connection;
    take_out(job);
    release(group, job);
    if (connection) {
        shut(group, connection);
        free_closed(group);
    }
    job_free(group, job);
}

static void start_queued(struct group *group, size_t limit) {
    while (group->queue.first && group->carried < limit)
        carry(group, take_first(&group->queue), false);
}

/* Hear those that may have more to say. */
static void hear_speaking(struct group *group) {
    struct connection *connection = group->speaking;
    group->speaking = NULL;
    while (connection) {
        struct connection *next = connection->more;
        connection->speaking = false;
        if (connection->channel.fd < 0) {
            connection->more = group->closed;
            group->closed = connection;
        } else {
            hear(group, connection);
        }
        connection = next;
    }
}

static int wait_events(struct group *group, struct epoll_event *events, double seconds) {
    double milliseconds = ceil(seconds * 1e3);
    int count = epoll_wait(group->epoll, events, EVENTS, milliseconds > 1e6 ? 1000000 : (int)milliseconds);
    return count < 0 ? 0 : count;
}

/* Seconds to wait for the next event. */
static double pause_of(struct group *group, size_t portion, double patience, double idle, double first) {
    if (group->speaking || group->wanting.count || group->ended.count >= portion)
        return 0.0;
    if (!group->ended.count)
        return idle;
    /* What has ended waits a little, for others to go with it. */
    double left = group->carried >= BUSY ? first + patience - group->now : 0.0;
    return left > 0.0 ? left : 0.0;
}

void group_step(struct group *group, size_t limit, size_t most, size_t portion, double patience, double idle) {
    struct epoll_event events[EVENTS];
    double first = 0.0; /* when the first job of this step ended */
    group->most = most;
    group->unfinished = true;
    for (;;) {
        group->now = group_now();
        if (group->now >= group->watch_at) {
            group->watch_at = group->now + WATCH;
            watch(group);
        }
        start_queued(group, limit);
        hear_speaking(group);
        if (group->ended.count && !first)
            first = group->now;
        if (group->ended.count >= portion || group->wanting.count)
            break;
        int count = wait_events(group, events, pause_of(group, portion, patience, idle, first));
        for (int i = 0; i < count; i++)
            hear(group, events[i].data.ptr);
        free_closed(group);
        if (!count && !group->speaking && (!group->queue.count || group->carried >= limit)) {
            group->unfinished = false;
            break;
        }
    }
    group_trim(group, most);
    free_closed(group);
}

bool group_has_ended(const struct group *group) { return group->ended.count; }
bool group_has_wanting(const struct group *group) { return group->wanting.count; }

struct job *group_ended(struct group *group) { return take_first(&group->ended); }

struct job *group_wanting(struct group *group) { return take_first(&group->wanting); }

size_t job_wants(const struct job *job) {
    /* Never far more than what has come, whatever the head says of what is to come. */
    size_t most = 2 * job->large_size, length = (size_t)job->head.length;
    if (most < FIRST_LARGE)
        most = FIRST_LARGE;
    return length < most ? length : most;
}

void group_resume(struct group *group, struct job *job) {
    struct connection *connection = job->connection;
    if (!job->received || job->body) { /* more room for a body that has begun */
        speak(group, connection);
        return;
    }
    size_t size = job->received - job->head.size;
    memcpy(job->large, job->small + job->head.size, size);
    if (job->algorithm && job->head.status == 200 && group->digests[job->algorithm]) {
        job->hashing = EVP_MD_CTX_new();
        if (!job->hashing || !EVP_DigestInit_ex(job->hashing, group->digests[job->algorithm], NULL)) {
            fail(group, connection, DECLINED, 0);
            return;
        }
    }
    speak(group, connection);
    if (size)
        take_body(group, connection, size);
}

void group_decline(struct group *group, struct job *job) { fail(group, job->connection, DECLINED, 0); }

bool group_busy(const struct group *group) {
    return group->unfinished || group->speaking || group->ended.count || group->wanting.count;
}
