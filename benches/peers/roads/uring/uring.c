// Raw TCP through the system calls of old (`plain`) and through io_uring: `uring` sends and receives with a
// registered descriptor; `uring+fixed` with registered buffers too; `uring+zc` sends without a copy; and
// `uring+multishot` asks once for all that will come. The same batches in all, one being filled while the
// one before is under way.

#define _GNU_SOURCE
#include "../end.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum { BATCH = 32 << 10, READ = 256 << 10, SLOTS = 16, POOL = 16, GROUP = 7 };
// What a completion is of: a receive, or a send of the batch in a slot.
enum { RECEIVE = SLOTS };

static struct io_uring ring;
static struct io_uring_buf_ring *pool;
static int fd, is_plain, is_fixed, is_zc, is_multishot, is_burst, listener = -1;
// What is sent: batches in turn, of which one is being filled while the kernel reads those before; two are
// enough unless it goes on reading what it has sent (`zc`).
static char *out[SLOTS];
static size_t out_room, filled, unsent[SLOTS], length[SLOTS];
static int is_busy[SLOTS], slot, slots = 2;
// What came: a stretch of bytes, and a message of which only the beginning was in the last one.
static char *in, *joined, *pools;
static size_t in_at, in_end, joined_length;
static int stretch = -1, is_armed, is_waiting, received, stretch_next;
static const char *far_what, *far_road;

static void *memory(size_t size) {
    void *memory;
    if (posix_memalign(&memory, 4096, size)) fail("memory", "none");
    memset(memory, 0x5a, size);
    return memory;
}

static void need(int result, const char *what) {
    if (result < 0) fail(what, strerror(-result));
}

static void open_ring(void) {
    struct io_uring_params params = {0};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
    int opened = io_uring_queue_init_params(64, &ring, &params);
    if (opened < 0) {
        fprintf(stderr, "NOT RUN: io_uring is not to be had here: %s (/proc/sys/kernel/io_uring_disabled, seccomp)\n",
                strerror(-opened));
        exit(1);
    }
    need(io_uring_register_files(&ring, &fd, 1), "register files");
    struct iovec buffers[SLOTS + 1];
    for (int at = 0; at < slots; at++) buffers[at] = (struct iovec){out[at], out_room};
    buffers[slots] = (struct iovec){in, READ};
    if (is_fixed || is_zc) need(io_uring_register_buffers(&ring, buffers, (unsigned)slots + 1), "register buffers");
    if (!is_multishot) return;
    pools = memory((size_t)POOL * READ);
    pool = memory(POOL * sizeof(struct io_uring_buf));
    struct io_uring_buf_reg registration = {.ring_addr = (unsigned long)pool, .ring_entries = POOL, .bgid = GROUP};
    need(io_uring_register_buf_ring(&ring, &registration, 0), "register a ring of buffers");
    io_uring_buf_ring_init(pool);
    for (int at = 0; at < POOL; at++)
        io_uring_buf_ring_add(pool, pools + (size_t)at * READ, READ, (unsigned short)at, POOL - 1, at);
    io_uring_buf_ring_advance(pool, POOL);
}

static void open_end(const char *what, const char *road) {
    is_plain = strcmp(road, "plain") == 0;
    is_fixed = strstr(road, "+fixed") != NULL;
    is_zc = strstr(road, "+zc") != NULL;
    is_multishot = strstr(road, "+multishot") != NULL;
    is_burst = strcmp(what, "send") == 0;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    out_room = message_size > BATCH ? message_size : BATCH;
    if (is_zc) slots = message_size > BATCH ? 4 : SLOTS;
    for (int at = 0; at < slots; at++) out[at] = memory(out_room);
    in = memory(READ);
    joined = memory(message_size);
    if (!is_plain) open_ring();
}

static void open_far(const char *what, const char *road, char *address) {
    far_what = what, far_road = road;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&at, length) || listen(listener, 1)) fail("listen", strerror(errno));
    getsockname(listener, (struct sockaddr *)&at, &length);
    sprintf(address, "%d", ntohs(at.sin_port));
}

static void open_near(const char *what, const char *road, const char *address) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    at.sin_port = htons((unsigned short)atoi(address));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&at, sizeof at)) fail("connect", strerror(errno));
    open_end(what, road);
}

static void accept_near(void) {
    fd = accept(listener, NULL, NULL);
    if (fd < 0) fail("accept", strerror(errno));
    close(listener);
    listener = -1;
    open_end(far_what, far_road);
}

static struct io_uring_sqe *entry(void) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    if (entry == NULL) fail("io_uring", "no entry left");
    return entry;
}

// Hands the rest of a batch to the kernel.
static void push(int of) {
    struct io_uring_sqe *it = entry();
    char *from = out[of] + length[of] - unsent[of];
    if (is_fixed) {
        io_uring_prep_write_fixed(it, 0, from, (unsigned)unsent[of], 0, of);
    } else if (is_zc) {
        io_uring_prep_send_zc(it, 0, from, unsent[of], MSG_WAITALL, 0);
        it->ioprio |= IORING_RECVSEND_FIXED_BUF;
        it->buf_index = (unsigned short)of;
    } else {
        io_uring_prep_send(it, 0, from, unsent[of], MSG_WAITALL);
    }
    it->flags |= IOSQE_FIXED_FILE;
    it->user_data = (unsigned)of;
    is_busy[of] = 1;
}

// Takes one completion; if there is none yet, what is pending is submitted and one awaited.
static void complete(void) {
    struct io_uring_cqe *done;
    if (io_uring_cq_ready(&ring) == 0) need(io_uring_submit_and_wait(&ring, 1), "submit");
    need(io_uring_wait_cqe(&ring, &done), "wait");
    int of = (int)done->user_data, result = done->res;
    unsigned flags = done->flags;
    io_uring_cqe_seen(&ring, done);
    if (of == RECEIVE) {
        received = result, is_waiting = 0;
        stretch_next = (int)(flags >> IORING_CQE_BUFFER_SHIFT);
        if (!(flags & IORING_CQE_F_MORE)) is_armed = 0;
        return;
    }
    if (!(flags & IORING_CQE_F_NOTIF)) {
        need(result, "send");
        unsent[of] -= (size_t)result;
    }
    if (flags & IORING_CQE_F_MORE) return; // the kernel still reads the memory
    is_busy[of] = 0;
    if (unsent[of] > 0) push(of);
}

static void flush(int is_last) {
    if (is_plain) {
        for (size_t at = 0; at < filled;) {
            ssize_t written = write(fd, out[0] + at, filled - at);
            if (written < 0) fail("write", strerror(errno));
            at += (size_t)written;
        }
        filled = 0;
        return;
    }
    while (unsent[(slot + slots - 1) % slots]) complete(); // or one could overtake the other
    unsent[slot] = length[slot] = filled;
    push(slot);
    if (is_burst) need(io_uring_submit(&ring), "submit"); // else with the receive that follows
    while (is_last && is_busy[slot]) complete();
    slot = (slot + 1) % slots, filled = 0;
    while (is_busy[slot]) complete();
}

static void make(struct message *message, size_t size) {
    if (filled + size > out_room) flush(0);
    message->body = out[slot] + filled;
    message->length = size;
    memset(message->body, 0x5a, size);
}

static void send_it(struct message *message) {
    uint64_t number;
    memcpy(&number, message->body, sizeof number);
    filled += message->length;
    if (!is_burst || number == UINT64_MAX || filled == out_room) flush(number == UINT64_MAX);
}

// The next stretch of bytes; the last one is given up.
static void more(void) {
    in_at = in_end = 0;
    if (is_plain) {
        ssize_t got = read(fd, in, READ);
        if (got <= 0) exit(0);
        in_end = (size_t)got;
        return;
    }
    if (is_multishot && stretch >= 0) {
        io_uring_buf_ring_add(pool, pools + (size_t)stretch * READ, READ, (unsigned short)stretch, POOL - 1, 0);
        io_uring_buf_ring_advance(pool, 1);
    }
    if (!is_armed) {
        struct io_uring_sqe *it = entry();
        if (is_multishot) {
            io_uring_prep_recv_multishot(it, 0, NULL, 0, 0);
            it->flags |= IOSQE_BUFFER_SELECT;
            it->buf_group = GROUP;
        } else if (is_fixed) {
            io_uring_prep_read_fixed(it, 0, in, READ, 0, slots);
        } else {
            io_uring_prep_recv(it, 0, in, READ, 0);
        }
        it->flags |= IOSQE_FIXED_FILE;
        it->user_data = RECEIVE;
        is_armed = 1;
    }
    for (is_waiting = 1; is_waiting;) complete();
    stretch = is_multishot && received > 0 ? stretch_next : -1;
    if (received == -ENOBUFS && is_multishot) return more(); // it ended since all were full
    if (received <= 0) exit(0);
    in_end = (size_t)received;
    if (is_multishot) in = pools + (size_t)stretch * READ;
}

static void receive(struct message *message) {
    if (listener >= 0) accept_near();
    message->length = message_size;
    for (;;) {
        size_t there = in_end - in_at, wanted = message_size - joined_length;
        size_t take = there < wanted ? there : wanted;
        if (joined_length == 0 && take == message_size) {
            message->body = in + in_at;
            in_at += take;
            return;
        }
        memcpy(joined + joined_length, in + in_at, take);
        joined_length += take, in_at += take;
        if (joined_length == message_size) {
            message->body = joined;
            joined_length = 0;
            return;
        }
        more();
    }
}

static void drop(struct message *message) { (void)message; }
