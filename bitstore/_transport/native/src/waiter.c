/* Waiting for the sockets of a group: by epoll, and where there is none, by poll. */
#include "inside.h"

#include <math.h>
#include <unistd.h>

/* Milliseconds, rounded up: a wait that ends too early would be begun again and again. */
static int milliseconds(double seconds) {
    double wanted = ceil(seconds * 1e3);
    return wanted > 1e6 ? 1000000 : (int)wanted;
}

#if defined __linux__ && !defined BITSTORE_POLL

#include <sys/epoll.h>

bool waiter_open(struct group *group) {
    group->process = getpid();
    return (group->waiter = epoll_create1(EPOLL_CLOEXEC)) >= 0;
}

void waiter_close(struct group *group) {
    if (group->waiter >= 0)
        close(group->waiter);
}

bool waiter_add(struct group *group, struct connection *connection) {
    /* Once for all: the kernel tells each change once. */
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data = {.ptr = connection}};
    return !epoll_ctl(group->waiter, EPOLL_CTL_ADD, connection->channel.fd, &event);
}

void waiter_remove(struct group *group, struct connection *connection) {
    /* Closing is not enough: while a forked child has the socket, the kernel would tell of memory that was freed. And
       a child has the waiter itself in common with its parent. */
    struct epoll_event event = {0};
    if (group->process == getpid())
        epoll_ctl(group->waiter, EPOLL_CTL_DEL, connection->channel.fd, &event);
}

int waiter_wait(struct group *group, struct connection *heard[WAITER_MOST], double seconds) {
    struct epoll_event events[WAITER_MOST];
    int count = epoll_wait(group->waiter, events, WAITER_MOST, milliseconds(seconds));
    for (int i = 0; i < count; i++)
        heard[i] = events[i].data.ptr;
    return count < 0 ? 0 : count;
}

#else

#include <poll.h>

bool waiter_open(struct group *group) {
    group->waiter = -1; /* a thread cannot sleep for it together with other sockets */
    return true;
}

void waiter_close(struct group *group) { (void)group; }

bool waiter_add(struct group *group, struct connection *connection) {
    (void)group;
    (void)connection;
    return true;
}

void waiter_remove(struct group *group, struct connection *connection) {
    (void)group;
    (void)connection;
}

int waiter_wait(struct group *group, struct connection *heard[WAITER_MOST], double seconds) {
    struct pollfd sockets[WAITER_MOST];
    struct connection *asked[WAITER_MOST];
    int count = 0, told = 0;
    for (struct connection *each = group->connections; each && count < WAITER_MOST; each = each->next) {
        if (!each->job && each->state != IDLE)
            continue;
        short events = each->state == CONNECTING && !each->channel.connected ? POLLIN | POLLOUT : POLLIN;
        asked[count] = each;
        sockets[count++] = (struct pollfd){.fd = each->channel.fd, .events = events};
    }
    if (poll(sockets, (nfds_t)count, milliseconds(seconds)) <= 0)
        return 0;
    for (int i = 0; i < count; i++)
        if (sockets[i].revents)
            heard[told++] = asked[i];
    return told;
}

#endif
