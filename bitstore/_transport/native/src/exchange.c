/* A job on a connection: how it begins, and how it ends. */
#include "inside.h"

#include <stdlib.h>

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
    job->way = NULL;
}

void job_free(struct group *group, struct job *job) {
    forget_answer(group, job);
    origin_drop(job->origin);
    free(job->message);
    free(job);
}

/* `job` is carried no more. */
void exchange_release(struct group *group, struct job *job) {
    if (!job->connection)
        return;
    job->connection->job = NULL;
    job->connection = NULL;
    group->carried--;
}

static void end(struct group *group, struct job *job, enum outcome outcome) {
    exchange_release(group, job);
    jobs_remove(job);
    job->outcome = outcome;
    jobs_append(&group->ended, job);
}

/* The connection of a job is of no use any more: the outcome, or another connection. */
void exchange_fail(struct group *group, struct connection *connection, enum outcome outcome, int error) {
    struct job *job = connection->job;
    /* Nothing has come on a connection that was used: the server has closed it, and may not have seen the request. By a
       new connection: if it is this request that the server hangs up at, it would do so at all kept ones. */
    bool stale = (outcome == CUT || outcome == BROKEN) && connection->used && job && !job->received;
    if (job) {
        exchange_release(group, job);
        jobs_remove(job);
    }
    connection_shut(group, connection);
    if (!job)
        return;
    if (stale) {
        exchange_carry(group, job, true);
        return;
    }
    if (outcome == UNREACHABLE || outcome == UNCLEAR)
        connection_shut_idle_of(group, job->origin);
    job->error = error;
    end(group, job, outcome);
}

void exchange_ask(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    const char *message = job->message;
    size_t size = job->message_size;
    if (job->sheet) {
        size = sheet_message_size(job->sheet, job->message_size);
        if (size > group->message_capacity) {
            char *more = realloc(group->message, size);
            if (!more) {
                exchange_fail(group, connection, DECLINED, 0);
                return;
            }
            group->message = more;
            group->message_capacity = size;
        }
        if (sheet_write(job->sheet, group->context, job->message, job->message_size, group->message)) {
            exchange_fail(group, connection, DECLINED, 0);
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
    exchange_fail(group, connection, sent < 0 && connection->used ? BROKEN : UNREACHABLE, connection->channel.error);
}

void exchange_speak(struct group *group, struct connection *connection) {
    if (connection->speaking)
        return;
    connection->speaking = true;
    connection->more = group->speaking;
    group->speaking = connection;
}

void exchange_carry(struct group *group, struct job *job, bool fresh) {
    struct connection *connection = fresh ? NULL : connection_kept(group, job->origin);
    bool connected = connection != NULL;
    if (!connection && !(connection = connection_dial(group, job->origin))) {
        end(group, job, DECLINED);
        return;
    }
    connection->job = job;
    connection->watched = false;
    job->connection = connection;
    group->carried++;
    if (connected)
        exchange_ask(group, connection);
}

void exchange_complete(struct group *group, struct connection *connection) {
    struct job *job = connection->job;
    bool last = job->head.last;
    if (!connection->used)
        connection_keep_session(connection);
    digest_end(group, job);
    end(group, job, ANSWERED);
    connection->used = true;
    if (last || (connection->channel.ssl && SSL_has_pending(connection->channel.ssl)) || connection->origin->unused) {
        connection_shut(group, connection);
        return;
    }
    connection->since = group->now;
    connection_idle(connection);
}

