// A member of a Corosync closed process group in the race: member MEMBERS RANK. What it is told on its
// standard input, and what it answers, is in the README beside the other members. Agreed order.

#include <corosync/cpg.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { END = 16, TIMES = 4096, RANKS = 64 };

static cpg_handle_t cpg;
static size_t in_group;
static uint32_t my_rank;

// What was delivered since the last report.
static struct {
    uint64_t messages, first, last, order, disorder, touched, times[TIMES];
    uint32_t next[RANKS], ended, kept;
} seen;

struct task {
    uint32_t size, ms, rate, senders, is_sender;
};

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void deliver(cpg_handle_t handle, const struct cpg_name *group, uint32_t node, uint32_t pid,
                    void *message, size_t length) {
    (void)handle, (void)group, (void)node, (void)pid;
    uint64_t at = now(), stamp;
    uint32_t rank, number;
    memcpy(&stamp, message, 8);
    memcpy(&rank, (char *)message + 8, 4);
    memcpy(&number, (char *)message + 12, 4);
    seen.disorder += seen.next[rank % RANKS] != number;
    seen.next[rank % RANKS] = number + 1;
    seen.order = (seen.order ^ ((uint64_t)rank << 32 | number)) * 0x0100000001b3u;
    if (length == END) {
        seen.ended++;
        return;
    }
    if (seen.messages == 0) seen.first = at;
    seen.last = at;
    seen.messages++;
    for (size_t i = 0; i < length; i += 64) seen.touched += ((unsigned char *)message)[i];
    if (seen.kept < TIMES) seen.times[seen.kept++] = at - stamp;
}

static void changed(cpg_handle_t handle, const struct cpg_name *group,
                    const struct cpg_address *members, size_t count, const struct cpg_address *left,
                    size_t left_count, const struct cpg_address *joined, size_t joined_count) {
    (void)handle, (void)group, (void)members, (void)left, (void)left_count, (void)joined,
        (void)joined_count;
    in_group = count;
}

static void fail(const char *what, int error) {
    fprintf(stderr, "corosync member: %s: error %d\n", what, error);
    exit(1);
}

static void dispatch(void) {
    int fd;
    cpg_fd_get(cpg, &fd);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    if (poll(&ready, 1, 30000) <= 0) fail("nothing was delivered for 30 s", 0);
    cs_error_t error = cpg_dispatch(cpg, CS_DISPATCH_ALL);
    if (error != CS_OK && error != CS_ERR_TRY_AGAIN) fail("dispatch", error);
}

static void *send_all(void *argument) {
    struct task task = *(struct task *)argument;
    char *body = malloc(task.size);
    memset(body, 0x5a, task.size);
    uint64_t since = now();
    for (uint32_t number = 0;; number++) {
        if (task.rate > 0) {
            uint64_t due = since + 1000000000u / task.rate * (uint64_t)number, at = now();
            if (due > at) usleep((useconds_t)((due - at) / 1000));
        }
        int is_last = now() - since >= (uint64_t)task.ms * 1000000u;
        uint64_t stamp = now();
        memcpy(body, &stamp, 8);
        memcpy(body + 8, &my_rank, 4);
        memcpy(body + 12, &number, 4);
        struct iovec part = {.iov_base = body, .iov_len = is_last ? END : task.size};
        cs_error_t error;
        // The library's own programs loop as well: there is no call that waits.
        while ((error = cpg_mcast_joined(cpg, CPG_TYPE_AGREED, &part, 1)) == CS_ERR_TRY_AGAIN)
            usleep(50);
        if (error != CS_OK) fail("multicast", error);
        if (is_last) break;
    }
    free(body);
    return NULL;
}

static void report(void) {
    printf("{\"messages\":%lu,\"nanos\":%lu,\"order\":\"%016lx\",\"disorder\":%lu,\"touched\":%lu,"
           "\"times\":[",
           seen.messages, seen.last - seen.first, seen.order, seen.disorder, seen.touched);
    for (uint32_t i = 0; i < seen.kept; i++) printf(i ? ",%lu" : "%lu", seen.times[i]);
    printf("]}\n");
    memset(&seen, 0, sizeof seen);
}

int main(int count, char **arguments) {
    if (count < 3) fail("member MEMBERS RANK", EINVAL);
    size_t members = (size_t)atoi(arguments[1]);
    my_rank = (uint32_t)atoi(arguments[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    cpg_callbacks_t callbacks = {.cpg_deliver_fn = deliver, .cpg_confchg_fn = changed};
    cs_error_t error = CS_ERR_TRY_AGAIN;
    for (int tries = 0; tries < 100 && error != CS_OK; tries++) {
        error = cpg_initialize(&cpg, &callbacks); // the daemon may still be starting
        if (error != CS_OK) usleep(100000);
    }
    if (error != CS_OK) fail("no daemon", error);
    struct cpg_name group = {.length = 4, .value = "race"};
    while ((error = cpg_join(cpg, &group)) == CS_ERR_TRY_AGAIN) usleep(10000);
    if (error != CS_OK) fail("join", error);
    puts("-");
    while (in_group < members) dispatch();
    puts("ready");
    struct task task;
    while (scanf("%u %u %u %u %u", &task.size, &task.ms, &task.rate, &task.senders,
                 &task.is_sender) == 5) {
        pthread_t sender;
        if (task.is_sender) pthread_create(&sender, NULL, send_all, &task);
        while (seen.ended < task.senders) dispatch();
        if (task.is_sender) pthread_join(sender, NULL);
        report();
    }
    return 0;
}
