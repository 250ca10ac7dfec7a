#include "inside.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef FIRST_LARGE /* the fuzzer has less */
#define FIRST_LARGE (256 * 1024 * 1024) /* bytes of memory for a body, before so many have come */
#endif
#define TRICKLE 100                     /* bytes a second: less is no progress */
#define LONGEST_STEP 0.02               /* seconds: the caller has other things to do, however much comes */
#define WATCH 0.5                       /* seconds between two looks at the time limits */
#define UNHASHED (512 * 1024)           /* bytes of large bodies: more may be out of the processor's cache when hashed */
#define BUSY 8 /* jobs carried: with so many, one that has ended waits a little for others to go with it */

double group_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

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
                exchange_fail(group, connection, UNREACHABLE, 0);
                next = group->connections; /* others may have been closed as well: from the beginning */
            }
        } else if (stalled(group, connection)) {
            exchange_fail(group, connection, STALLED, 0);
            next = group->connections;
        }
    }
    for (struct origin **place = &group->origins; *place;) {
        struct origin *origin = *place;
        if (!origin->unused) {
            place = &origin->next;
            continue;
        }
        connection_shut_idle_of(group, origin);
        *place = origin->next;
        origin->group = NULL;
        origin_drop(origin);
    }
}

struct group *group_new(void) {
    struct group *group = calloc(1, sizeof *group);
    if (!group)
        return NULL;
    bool open = waiter_open(group);
    if (digests_open(group) && open)
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
            exchange_release(group, job);
            jobs_remove(job);
            jobs_append(&group->ended, job);
        }
        connection_shut(group, connection);
    }
    while (group->speaking) {
        struct connection *connection = group->speaking;
        group->speaking = connection->more;
        connection->more = group->closed;
        group->closed = connection;
    }
    connection_free_closed(group);
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        while (lists[i]->first) {
            struct job *job = jobs_take_first(lists[i]);
            if (released)
                released(job->token);
            job_free(group, job);
        }
    while (group->origins) {
        struct origin *origin = group->origins;
        group->origins = origin->next;
        origin->group = NULL;
        origin_drop(origin);
    }
    while (group->spare)
        free(group->buffers[--group->spare]);
    free(group->message);
    digests_close(group);
    waiter_close(group);
    free(group);
}

int group_fd(const struct group *group) { return group->waiter; }
size_t group_connections(const struct group *group) { return group->count; }
size_t group_queued(const struct group *group) { return group->queue.count; }
size_t group_carried(const struct group *group) { return group->carried; }

struct job *group_begin(struct group *group, const struct job *wanted) {
    struct job *job = malloc(sizeof *job);
    if (!job)
        return NULL;
    *job = *wanted;
    origin_hold(job->origin);
    if (!job->origin->group) {
        job->origin->group = group;
        job->origin->next = group->origins;
        group->origins = origin_hold(job->origin);
    }
    jobs_append(&group->queue, job);
    group->unfinished = true;
    return job;
}

void group_retire(struct origin *origin) {
    struct group *group = origin->group;
    origin->unused = true;
    if (!group || group->entered)
        return;
    connection_shut_idle_of(group, origin);
    connection_free_closed(group);
}

void group_enter(struct group *group, bool entered) { group->entered = entered; }
bool group_is_entered(const struct group *group) { return group->entered; }

void group_abandon(struct group *group, struct job *job) {
    struct connection *connection = job->connection;
    jobs_remove(job);
    exchange_release(group, job);
    if (connection) {
        connection_shut(group, connection);
        connection_free_closed(group);
    }
    job_free(group, job);
}

static void start_queued(struct group *group, size_t limit) {
    while (group->queue.first && group->carried < limit)
        exchange_carry(group, jobs_take_first(&group->queue), false);
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
            answer_hear(group, connection);
        }
        connection = next;
    }
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
    struct connection *heard[WAITER_MOST];
    double first = 0.0; /* when the first job of this step ended */
    double until = group_now() + LONGEST_STEP + idle;
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
        if (group->unhashed >= UNHASHED)
            digests_settle(group);
        if (group->ended.count && !first)
            first = group->now;
        if (group->ended.count >= portion || group->wanting.count || group->now >= until)
            break;
        int count = waiter_wait(group, heard, pause_of(group, portion, patience, idle, first));
        for (int i = 0; i < count; i++)
            answer_hear(group, heard[i]);
        connection_free_closed(group);
        if (!count && !group->speaking && (!group->queue.count || group->carried >= limit)) {
            group->unfinished = false;
            break;
        }
    }
    if (group->ended.count)
        digests_settle(group);
    group_trim(group, most);
    connection_free_closed(group);
}

bool group_has_ended(const struct group *group) { return group->ended.count; }

struct job *group_ended(struct group *group) { return jobs_take_first(&group->ended); }

struct job *group_wanting(struct group *group) { return jobs_take_first(&group->wanting); }

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
        exchange_speak(group, connection);
        return;
    }
    size_t size = job->received - job->head.size;
    memcpy(job->large, job->small + job->head.size, size);
    exchange_speak(group, connection);
    if (size)
        answer_take_body(group, connection, size);
}

void group_decline(struct group *group, struct job *job) { exchange_fail(group, job->connection, DECLINED, 0); }

bool group_busy(const struct group *group) {
    return group->unfinished || group->speaking || group->ended.count || group->wanting.count;
}
