/* A program that knows nothing of tidings. "send QUEUE BODY PRIORITY" puts a body into a queue that
   is there; "recv QUEUE" makes one, says so, and prints the first body with its priority. */
#include <fcntl.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "send") == 0) {
        mqd_t queue = mq_open(argv[2], O_WRONLY);
        if (queue == (mqd_t)-1) return perror("mq_open"), 1;
        if (mq_send(queue, argv[3], strlen(argv[3]), atoi(argv[4]))) return perror("mq_send"), 1;
        return mq_close(queue);
    }
    if (argc == 3 && strcmp(argv[1], "recv") == 0) {
        struct mq_attr attributes = {.mq_maxmsg = 4, .mq_msgsize = 256};
        mqd_t queue = mq_open(argv[2], O_RDONLY | O_CREAT | O_EXCL, 0600, &attributes);
        if (queue == (mqd_t)-1) return perror("mq_open"), 1;
        puts("ready");
        fflush(stdout);
        char body[257];
        unsigned priority;
        ssize_t len = mq_receive(queue, body, 256, &priority);
        mq_unlink(argv[2]);
        if (len < 0) return perror("mq_receive"), 1;
        body[len] = 0;
        printf("%s %u\n", body, priority);
        return 0;
    }
    return 2;
}
