/* A program that knows nothing of tidings: sends BODY as one UDP datagram to PORT on loopback. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    if (sendto(fd, argv[2], strlen(argv[2]), 0, (struct sockaddr *)&to, sizeof to) < 0)
        return perror("sendto"), 1;
    return 0;
}
