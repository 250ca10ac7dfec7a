/* The answer to a job, as it comes. */
#include "inside.h"

#include <stdlib.h>

#define READINGS 64             /* one after another, of one connection: others want to be heard as well */
#define PIECE (256 * 1024)      /* bytes of one reading: what is hashed next is still in the processor's cache */
#define PART (64 * 1024) /* bytes of a large body, to be hashed together with parts of others: those are heard next */
#define ERROR_BYTES (64 * 1024) /* of the body of an error: it tells what it is */
#define CHUNKED_BYTES (16 * 1024 * 1024) /* of a body whose length is not told */

/* Begin with the body, whose head is whole. False: the job has failed. */
static bool begin_body(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    int64_t length = job->head.length, most = job->most;
    enum outcome outcome = ANSWERED;
    if (job->head.status >= 300 && length > ERROR_BYTES) {
        job->head.length = ERROR_BYTES;
        job->head.last = true; /* the rest is never read */
    } else if (job->head.status < 300 && most && length > most)
        outcome = TOO_LARGE;
    else if (!digest_begin(group, job))
        outcome = DECLINED;
    if (outcome) {
        exchange_fail(group, connection, outcome, 0);
        return false;
    }
    return true;
}

static void want(struct group *group, struct job *job) { jobs_append(&group->wanting, job); }

/* Count `size` bytes of the body, which are in their place. False: the connection is not to be read any further. */
bool answer_take_body(struct group *group, struct connection *connection, size_t size) {
    struct job *job = connection->job;
    if (job->head.length == BODY_CHUNKED) {
        size_t used, part;
        enum reading reading = chunks_take(&job->chunks, job->small + job->head.size + job->body, size, &used, &part);
        job->body += part;
        bool error = job->head.status >= 300;
        size_t most = error ? ERROR_BYTES : CHUNKED_BYTES;
        if (reading == READING_UNCLEAR)
            exchange_fail(group, connection, UNCLEAR, 0);
        else if (!error && job->most && job->body > (uint64_t)job->most)
            exchange_fail(group, connection, TOO_LARGE, 0);
        else if (error && job->body > most) {
            job->body = most;
            job->head.last = true;
            exchange_complete(group, connection);
        } else if (job->body > most)
            exchange_fail(group, connection, DECLINED, 0);
        else if (reading == READING_WHOLE) {
            job->head.last |= used < size; /* nothing asked for what follows */
            exchange_complete(group, connection);
        } else
            return true;
        return false;
    }
    uint64_t left = (uint64_t)job->head.length - job->body;
    if (size > left) {
        job->head.last = true;
        size = (size_t)left;
    }
    if (job->large && !digest_take(group, job, job->large + job->body, size)) {
        exchange_fail(group, connection, DECLINED, 0);
        return false;
    }
    job->body += size;
    if (job->body == (uint64_t)job->head.length) {
        exchange_complete(group, connection);
        return false;
    }
    if (job_is_large(job) && job->body == job->large_size) {
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
        exchange_fail(group, connection, place ? UNCLEAR : DECLINED, 0);
        return false;
    }
    ssize_t got = channel_read(&connection->channel, place, size > PIECE ? PIECE : size);
    if (got == CHANNEL_WAIT)
        return false;
    if (got <= 0) {
        exchange_fail(group, connection, got ? BROKEN : CUT, connection->channel.error);
        return false;
    }
    job->received += (size_t)got;
    if (job->head.status)
        return answer_take_body(group, connection, (size_t)got);
    struct head head;
    switch (head_read(job->small, job->received, &head)) {
    case READING_MORE:
        return true;
    case READING_UNCLEAR:
        exchange_fail(group, connection, UNCLEAR, 0);
        return false;
    default:
        job->head = head;
    }
    if (!begin_body(group, connection))
        return false;
    if (job_is_large(job)) {
        want(group, job);
        return false;
    }
    return answer_take_body(group, connection, job->received - head.size);
}

void answer_hear(struct group *group, struct connection *connection) {
    if (connection->channel.fd < 0)
        return; /* it was closed just now */
    if (connection->state == IDLE) {
        if (!channel_quiet(&connection->channel)) /* closed by the server, or it sends what nothing asked for */
            connection_shut(group, connection);
        return;
    }
    if (connection->state == CONNECTING) {
        int ready = channel_ready(&connection->channel);
        if (ready == CHANNEL_ERROR)
            exchange_fail(group, connection, UNREACHABLE, connection->channel.error);
        if (ready != 1)
            return;
        exchange_ask(group, connection);
        if (connection->channel.fd < 0)
            return;
    }
    struct job *job = connection->job;
    if (!job || job->list == &group->wanting)
        return;
    for (int i = 0; i < READINGS; i++) {
        if (!read_once(group, connection))
            return;
        if (job->way && job->large && job->body - job->sha.hashed >= PART)
            break;
    }
    exchange_speak(group, connection);
}
