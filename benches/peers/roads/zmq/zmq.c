// ZeroMQ: PUSH to PULL one way, REQ and REP for round trips. At most once, in order.

#include "../end.h"
#include <malloc.h>
#include <zmq.h>

static void *it;
static char own[1 << 16];

static void open_socket(const char *what, int is_far) {
    mallopt(M_MMAP_THRESHOLD, 1 << 26); // no page faults for each large message
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
    void *context = zmq_ctx_new();
    int is_send = strcmp(what, "send") == 0;
    it = zmq_socket(context, is_send ? (is_far ? ZMQ_PULL : ZMQ_PUSH) : (is_far ? ZMQ_REP : ZMQ_REQ));
    int water = 10000;
    if (getenv("RACE_ZMQ_HWM")) water = atoi(getenv("RACE_ZMQ_HWM"));
    zmq_setsockopt(it, ZMQ_SNDHWM, &water, sizeof water);
    zmq_setsockopt(it, ZMQ_RCVHWM, &water, sizeof water);
}

static void open_far(const char *what, const char *road, char *address) {
    open_socket(what, 1);
    size_t length = 256;
    if (strcmp(road, "tcp") == 0) {
        if (zmq_bind(it, "tcp://127.0.0.1:*")) fail("bind", zmq_strerror(zmq_errno()));
    } else {
        if (zmq_bind(it, "ipc://*")) fail("bind", zmq_strerror(zmq_errno()));
    }
    zmq_getsockopt(it, ZMQ_LAST_ENDPOINT, address, &length);
}

static void open_near(const char *what, const char *road, const char *address) {
    (void)road;
    open_socket(what, 0);
    if (zmq_connect(it, address)) fail("connect", zmq_strerror(zmq_errno()));
}

// Small messages are copied into the library; a large one is made in its memory.
static void make(struct message *message, size_t size) {
    message->length = size;
    message->of_library = NULL;
    message->body = own;
    if (size < sizeof own) return;
    zmq_msg_t *of = malloc(sizeof *of);
    zmq_msg_init_size(of, size);
    message->of_library = of;
    message->body = zmq_msg_data(of);
    memset(message->body, 0x5a, size);
}

static void send_it(struct message *message) {
    if (message->of_library == NULL) {
        if (zmq_send(it, message->body, message->length, 0) < 0) fail("send", zmq_strerror(zmq_errno()));
        return;
    }
    if (zmq_msg_send(message->of_library, it, 0) < 0) fail("send", zmq_strerror(zmq_errno()));
    free(message->of_library);
}

static void receive(struct message *message) {
    static zmq_msg_t came;
    zmq_msg_init(&came);
    if (zmq_msg_recv(&came, it, 0) < 0) fail("receive", zmq_strerror(zmq_errno()));
    message->body = zmq_msg_data(&came);
    message->length = zmq_msg_size(&came);
    message->of_library = &came;
}

static void drop(struct message *message) { zmq_msg_close(message->of_library); }
