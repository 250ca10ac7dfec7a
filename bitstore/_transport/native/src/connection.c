#include "inside.h"

#include <stdlib.h>

#define LONGEST_IDLE 60.0 /* seconds: something on the way may have forgotten the connection, without a word */

static void idle_remove(struct connection *connection) {
    if (connection->state != IDLE)
        return;
    *(connection->idle_before ? &connection->idle_before->idle_next : &connection->origin->idle) = connection->idle_next;
    if (connection->idle_next)
        connection->idle_next->idle_before = connection->idle_before;
    connection->idle_next = connection->idle_before = NULL;
}

void connection_idle(struct connection *connection) {
    struct origin *origin = connection->origin;
    connection->state = IDLE;
    connection->idle_before = NULL;
    connection->idle_next = origin->idle;
    if (origin->idle)
        origin->idle->idle_before = connection;
    origin->idle = connection;
}

void connection_shut(struct group *group, struct connection *connection) {
    idle_remove(connection);
    waiter_remove(group, connection);
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

void connection_free_closed(struct group *group) {
    while (group->closed) {
        struct connection *connection = group->closed;
        group->closed = connection->more;
        origin_drop(connection->origin);
        free(connection);
    }
}

void connection_shut_idle_of(struct group *group, struct origin *origin) {
    while (origin->idle)
        connection_shut(group, origin->idle);
}

void group_trim(struct group *group, size_t most) {
    for (struct origin *origin = group->origins; origin && group->count > most; origin = origin->next)
        while (origin->idle && group->count > most)
            connection_shut(group, origin->idle);
}

struct connection *connection_dial(struct group *group, struct origin *origin) {
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
    if (!waiter_add(group, connection)) {
        channel_close(&connection->channel);
        free(connection);
        return NULL;
    }
    connection->origin = origin_hold(origin);
    connection->state = CONNECTING;
    connection->next = group->connections;
    if (group->connections)
        group->connections->before = connection;
    group->connections = connection;
    group->count++;
    return connection;
}

struct connection *connection_kept(struct group *group, struct origin *origin) {
    while (origin->idle) {
        struct connection *connection = origin->idle;
        if (group->now - connection->since < LONGEST_IDLE && channel_quiet(&connection->channel)) {
            idle_remove(connection);
            connection->state = ASKED;
            return connection;
        }
        connection_shut(group, connection);
    }
    return NULL;
}

void connection_keep_session(struct connection *connection) {
    SSL_SESSION *session = connection->channel.ssl ? SSL_get0_session(connection->channel.ssl) : NULL;
    if (!session || !SSL_SESSION_is_resumable(session))
        return;
    /* Of its own: a session whose connection ends without a goodbye would not be resumed. */
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (!copy)
        return;
    SSL_SESSION_free(connection->origin->session);
    connection->origin->session = copy;
}
