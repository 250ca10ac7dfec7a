/* Coverage-guided fuzzing of the native transport: a server that says anything, in any pieces, and a system that fails.

   The group of connections is the real one; in place of sockets, the input says what each call comes to: its first bytes
   are decisions, again and again, and what follows is received, answer by answer (ANSWER_END ends each). What is claimed
   of each answer is checked at its end, and the accounts of the group after each step. */
#include <stdlib.h>
#include <string.h>

#include "inside.h"

#define JOBS 6
#define STEPS 60
#define CHECK(condition) \
    do { \
        if (!(condition)) \
            abort(); \
    } while (0)

#define DECISIONS 48
#define ANSWER_END 0x1E

static const uint8_t *decisions, *text;
static size_t decision, left;

static unsigned next(void) { return decisions[decision++ % DECISIONS]; }

/* In place of channel.c */

static int sockets;

bool channel_dial(struct channel *channel, const struct address *address, SSL_CTX *trust, const char *server_name,
                  SSL_SESSION *session) {
    (void)address, (void)trust, (void)server_name, (void)session;
    *channel = (struct channel){.fd = ++sockets};
    return next() != 255;
}

int channel_ready(struct channel *channel) {
    unsigned what = next();
    CHECK(channel->fd >= 0);
    return what == 254 ? CHANNEL_WAIT : what == 255 ? CHANNEL_ERROR : 1;
}

ssize_t channel_send(struct channel *channel, const char *data, size_t size) {
    unsigned what = next();
    CHECK(channel->fd >= 0 && data && size > 4 && !memcmp(data, "GET /", 5) && !memcmp(data + size - 2, "\r\n", 2));
    return what == 253 ? (ssize_t)size / 2 : what == 254 ? CHANNEL_WAIT : what == 255 ? CHANNEL_ERROR : (ssize_t)size;
}

ssize_t channel_read(struct channel *channel, char *data, size_t size) {
    CHECK(channel->fd >= 0 && size);
    unsigned what = next();
    if (what == 255)
        return CHANNEL_ERROR;
    if (what == 254)
        return CHANNEL_WAIT;
    if (what == 253) { /* much of the same */
        size_t much = next() * 512;
        much = much && much < size ? much : size;
        memset(data, (int)next(), much);
        return (ssize_t)much;
    }
    size_t part = what ? what : size;
    part = part < size ? part : size;
    part = part < left ? part : left;
    const uint8_t *end = memchr(text, ANSWER_END, part);
    if (end == text) {
        text++, left--;
        return what & 1 ? 0 : CHANNEL_WAIT;
    }
    if (end)
        part = (size_t)(end - text);
    memcpy(data, text, part);
    text += part;
    left -= part;
    return (ssize_t)part;
}

bool channel_quiet(struct channel *channel) {
    CHECK(channel->fd >= 0);
    return next() != 255;
}

void channel_close(struct channel *channel) { channel->fd = -1; }

/* In place of waiter.c */

bool waiter_open(struct group *group) {
    group->waiter = -1;
    return true;
}

void waiter_close(struct group *group) { (void)group; }

bool waiter_add(struct group *group, struct connection *connection) {
    (void)group, (void)connection;
    return next() != 255;
}

void waiter_remove(struct group *group, struct connection *connection) {
    (void)group;
    CHECK(connection->channel.fd >= 0);
}

static int waits; /* that may still be fruitful in this step */

int waiter_wait(struct group *group, struct connection *heard[WAITER_MOST], double seconds) {
    int count = 0;
    (void)seconds;
    if (waits && waits-- && next() != 255)
        for (struct connection *each = group->connections; each && count < WAITER_MOST; each = each->next)
            heard[count++] = each;
    return count;
}

/* What is claimed */

static void check_accounts(struct group *group) {
    size_t count = 0, carried = 0;
    for (struct connection *each = group->connections; each; each = each->next) {
        CHECK(each->channel.fd >= 0 && (!each->job || each->job->connection == each) && (each->job || each->state == IDLE));
        count++;
        carried += each->job != NULL;
    }
    CHECK(count == group->count && carried == group->carried && !group->closed);
}

static void check(struct group *group, const struct job *job) {
    CHECK(!job->connection && !job->list);
    if (job->outcome != ANSWERED)
        return;
    const char *body = job->large ? job->large : job->small + job->head.size;
    CHECK(job->head.status >= 200 && job->head.status <= 999);
    CHECK(job->head.length == BODY_CHUNKED || (uint64_t)job->head.length == job->body);
    CHECK(job->head.size <= job->capacity && job->head.size > 0);
    if (job->most && job->head.status < 300)
        CHECK(job->body <= (uint64_t)job->most);
    CHECK(job->digest_size || !job->way); /* what is hashed together is hashed before the job is given back */
    if (job->digest_size) {
        unsigned char digest[64];
        unsigned size;
        CHECK(job->head.status == 200);
        CHECK(EVP_Digest(body, job->body, digest, &size, group->digests[job->algorithm], NULL));
        CHECK(size == job->digest_size && !memcmp(digest, job->digest, size));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *bodies[JOBS] = {0};
    struct job *jobs[JOBS];
    int ended = 0;
    if (size < DECISIONS)
        return 0;
    decisions = data;
    text = data + DECISIONS;
    left = size - DECISIONS;
    decision = 0;
    struct group *group = group_new();
    struct origin *origin = origin_new(NULL, "server");
    static const char *const texts[] = {"canonical", "text", " before", "after\r\n"};
    static const size_t sizes[] = {9, 4, 7, 7};
    struct sheet *sheet = sheet_new(texts, sizes, (const unsigned char *)"a key of thirty-two bytes, no more", 32);
    bool used = true; /* whether a request to the origin may still come */
    CHECK(group && origin && sheet);
    unsigned flags = next();
    origin->address.size = sizeof(struct sockaddr_in);
    origin->known_until = 1e18;
    origin->connect_timeout = flags & 1 ? 0.0 : 1e9;
    origin->stall_timeout = flags & 2 ? 0.0 : 1e9;
    for (int i = 0; i < JOBS; i++) {
        struct job job = {.token = &bodies[i], .origin = origin, .algorithm = next() % ALGORITHMS};
        job.most = flags & 4 ? 100000 : 0;
        job.sheet = flags & 16 && i % 2 ? sheet : NULL;
        job.message = strdup(job.sheet ? "/path" : "GET /\r\n");
        job.message_size = strlen(job.message);
        jobs[i] = group_begin(group, &job);
        CHECK(jobs[i]);
    }
    for (int step = 0; step < STEPS && ended < JOBS && left; step++) {
        if (next() == 255)
            group->watch_at = 0.0; /* time limits are looked at */
        waits = 20;
        group_step(group, 1 + next() % 4, 1 + next() % 4, 1 + next() % 3, 0.0, 0.0);
        check_accounts(group);
        for (struct job *job; (job = group_wanting(group));) {
            char **body = job->token;
            size_t wanted = flags & 64 ? (size_t)job->head.length : job_wants(job); /* as for a part in its place */
            char *more = wanted < (1 << 20) && next() != 255 ? realloc(*body, wanted) : NULL;
            if (!more) {
                group_decline(group, job);
                continue;
            }
            *body = job->large = more;
            job->large_size = wanted;
            group_resume(group, job);
        }
        for (struct job *job; (job = group_ended(group));) {
            for (int i = 0; i < JOBS; i++)
                if (jobs[i] == job)
                    jobs[i] = NULL;
            check(group, job);
            job_free(group, job);
            ended++;
        }
        if (used && next() == 255) { /* the origin ends, between two steps or within one */
            used = false;
            group_enter(group, flags & 8);
            group_retire(origin);
            group_enter(group, false);
            CHECK(flags & 8 || !origin->idle);
        }
        if (next() == 255) { /* somebody has no use for an answer any more */
            int i = (int)(next() % JOBS);
            if (jobs[i]) {
                group_abandon(group, jobs[i]);
                jobs[i] = NULL;
                ended++;
            }
        }
    }
    if (used && flags & 32)
        group_retire(origin);
    origin_drop(origin);
    group_free(group, NULL);
    sheet_free(sheet);
    for (int i = 0; i < JOBS; i++)
        free(bodies[i]);
    return 0;
}
