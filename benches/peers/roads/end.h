// What the two ends of every road have in common, for C: the same as `ends/src/lib.rs`. A program that includes
// it defines the five functions below; main() is here.

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct message {
    char *body;
    size_t length;
    void *of_library;
};

// Of every message.
static size_t message_size;

// Opens the end, and writes into `address` where the far one listens.
static void open_far(const char *what, const char *road, char *address);
static void open_near(const char *what, const char *road, const char *address);
// Memory for a message to be sent, the number not yet in it; sends it and gives it up.
static void make(struct message *message, size_t size);
static void send_it(struct message *message);
// Waits for a message; gives up one that was received.
static void receive(struct message *message);
static void drop(struct message *message);

static void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static void *end_with_parent(void *nothing) {
    char byte;
    if (read(0, &byte, 1) <= 0) _exit(0);
    return nothing;
}

static void be_sink(void) {
    uint64_t messages = 0, disorder = 0, touched = 0, since = 0;
    for (;;) {
        struct message message;
        receive(&message);
        uint64_t number;
        memcpy(&number, message.body, 8);
        if (number == UINT64_MAX) {
            printf("{\"messages\":%lu,\"nanos\":%lu,\"disorder\":%lu,\"touched\":%lu}\n", messages,
                   now() - since, disorder, touched);
            messages = disorder = 0;
        } else {
            if (messages == 0) since = now();
            disorder += number != messages;
            messages++;
            for (size_t i = 0; i < message.length; i += 64) touched += (unsigned char)message.body[i];
        }
        drop(&message);
    }
}

static void flood(size_t size, uint64_t nanos) {
    uint64_t since = now(), number = 0;
    for (int is_last = 0; !is_last;) {
        if ((size > 16384 || number % 64 == 0) && now() - since >= nanos) is_last = 1;
        struct message message;
        make(&message, size);
        uint64_t it = is_last ? UINT64_MAX : number++;
        memcpy(message.body, &it, 8);
        send_it(&message);
    }
    printf("{\"sent\":%lu}\n", number);
}

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static void round_trips(size_t size, uint64_t nanos) {
    size_t room = 1 << 22, count = 0;
    uint64_t *times = malloc(room * sizeof *times), since = now(), asked;
    for (long trip = -1000; (asked = now()) - since < nanos; trip++) {
        struct message message;
        make(&message, size);
        send_it(&message);
        receive(&message);
        drop(&message);
        if (trip >= 0 && count < room) times[count++] = now() - asked;
    }
    qsort(times, count, sizeof *times, compare);
    if (count == 0) fail("round trips", "none");
    printf("{\"count\":%zu,\"p50\":%lu,\"p99\":%lu,\"p999\":%lu}\n", count,
           times[(count - 1) * 50 / 100], times[(count - 1) * 99 / 100],
           times[(count - 1) * 999 / 1000]);
}

int main(int count, char **words) {
    if (count < 5) fail(words[0], "far|near WHAT ROAD SIZE [ADDRESS]");
    const char *what = words[2], *road = words[3];
    size_t size = message_size = (size_t)atol(words[4]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(words[1], "far") == 0) {
        char address[256] = "";
        open_far(what, road, address);
        puts(address);
        pthread_t watcher;
        pthread_create(&watcher, NULL, end_with_parent, NULL);
        if (strcmp(what, "send") == 0) be_sink();
        for (;;) {
            struct message message, answer;
            receive(&message);
            make(&answer, message.length);
            memcpy(answer.body, message.body, message.length);
            drop(&message);
            send_it(&answer);
        }
    }
    open_near(what, road, words[5]);
    puts("ready");
    unsigned long ms;
    if (scanf("%lu", &ms) != 1) fail(words[0], "not told for how long");
    if (strcmp(what, "send") == 0)
        flood(size, ms * 1000000u);
    else
        round_trips(size, ms * 1000000u);
    pause(); // what is still on its way goes on; the parent ends us
}
