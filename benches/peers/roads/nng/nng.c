// nng: PUSH to PULL one way, REQ and REP for round trips. At most once, in order.

#include "../end.h"
#include <nng/nng.h>
#include <nng/protocol/pipeline0/pull.h>
#include <nng/protocol/pipeline0/push.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>

static nng_socket it;

static void check(const char *what, int error) {
    if (error) fail(what, nng_strerror(error));
}

static void set_buffers(void) {
    nng_socket_set_int(it, NNG_OPT_SENDBUF, 8192); // not every protocol has them
    nng_socket_set_int(it, NNG_OPT_RECVBUF, 8192);
    nng_socket_set_size(it, NNG_OPT_RECVMAXSZ, 0);
}

static void open_far(const char *what, const char *road, char *address) {
    check("open", strcmp(what, "send") == 0 ? nng_pull0_open(&it) : nng_rep0_open(&it));
    set_buffers();
    nng_listener listener;
    if (strcmp(road, "tcp") == 0) {
        check("listen", nng_listen(it, "tcp://127.0.0.1:0", &listener, 0));
        nng_sockaddr local;
        check("address", nng_listener_get_addr(listener, NNG_OPT_LOCADDR, &local));
        unsigned port = local.s_in.sa_port;
        sprintf(address, "tcp://127.0.0.1:%u", (port & 0xff) << 8 | port >> 8);
    } else {
        sprintf(address, "ipc:///tmp/race-nng-%d.sock", getpid());
        check("listen", nng_listen(it, address, &listener, 0));
    }
}

static void open_near(const char *what, const char *road, const char *address) {
    (void)road;
    check("open", strcmp(what, "send") == 0 ? nng_push0_open(&it) : nng_req0_open(&it));
    set_buffers();
    check("dial", nng_dial(it, address, NULL, 0));
}

static void make(struct message *message, size_t size) {
    nng_msg *of;
    check("memory", nng_msg_alloc(&of, size));
    message->of_library = of;
    message->body = nng_msg_body(of);
    message->length = size;
    memset(message->body, 0x5a, size);
}

static void send_it(struct message *message) {
    check("send", nng_sendmsg(it, message->of_library, 0));
}

static void receive(struct message *message) {
    nng_msg *of;
    check("receive", nng_recvmsg(it, &of, 0));
    message->of_library = of;
    message->body = nng_msg_body(of);
    message->length = nng_msg_len(of);
}

static void drop(struct message *message) { nng_msg_free(message->of_library); }
