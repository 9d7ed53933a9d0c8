/* The least server that load.c can be pointed at: it shows what the generator and the kernel can do.
 *
 * `ceiling PORT` listens on 127.0.0.1. A GET is upgraded to a WebSocket, greeted with one `welcome`
 * frame and subscribed to the only channel there is. A POST is answered with 200, and its body goes to
 * every socket as one text frame. All POSTs that arrive in one turn leave in one send per socket.
 * It checks nothing, keeps nothing, and is no measure for a server that has work to do.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 65536, EVENTS = 512, INBOX = 1 << 16, BATCH = 1 << 20 };

static const char UPGRADE[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n" /* load.c always sends the sample nonce */
    "\x81\x12{\"type\":\"welcome\"}";
static const char OK[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";

static int subscribers[MOST], place[MOST], waiting[EVENTS];
static int subscriber_count, waiting_count, poll_fd;
static char batch[BATCH];
static size_t batch_len;

static void add_to_batch(const char *body, size_t len) {
    char *at = batch + batch_len;
    *at++ = (char)0x81;
    if (len < 126) {
        *at++ = (char)len;
    } else {
        *at++ = 126;
        *at++ = (char)(len >> 8);
        *at++ = (char)len;
    }
    memcpy(at, body, len);
    batch_len = (size_t)(at - batch) + len;
}

static void flush_batch(void) {
    for (int i = 0; batch_len && i < subscriber_count; i++)
        if (send(subscribers[i], batch, batch_len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)batch_len)
            fprintf(stderr, "ceiling: a socket takes no more bytes\n");
    for (int i = 0; i < waiting_count; i++) send(waiting[i], OK, sizeof OK - 1, MSG_NOSIGNAL);
    batch_len = 0, waiting_count = 0;
}

static void forget(int fd) {
    if (place[fd] > 0) { /* the last subscriber takes the place that becomes free */
        int last = subscribers[--subscriber_count];
        subscribers[place[fd] - 1] = last;
        place[last] = place[fd];
        place[fd] = 0;
    }
    close(fd);
}

static void serve(int fd) {
    static char inbox[INBOX];
    ssize_t len = recv(fd, inbox, sizeof inbox, 0);
    if (len <= 0) {
        forget(fd);
    } else if (memcmp(inbox, "GET ", 4) == 0) {
        subscribers[subscriber_count++] = fd;
        place[fd] = subscriber_count;
        send(fd, UPGRADE, sizeof UPGRADE - 1, MSG_NOSIGNAL);
    } else if (memcmp(inbox, "POST ", 5) == 0) { /* load.c sends a request whole */
        const char *body = (char *)memmem(inbox, (size_t)len, "\r\n\r\n", 4) + 4;
        add_to_batch(body, (size_t)(inbox + len - body));
        waiting[waiting_count++] = fd;
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: ceiling PORT\n"), 2;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1]))};
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int yes = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) < 0 || listen(listener, 4096) < 0)
        return perror("ceiling"), 1;
    poll_fd = epoll_create1(0);
    struct epoll_event in = {.events = EPOLLIN, .data.fd = listener}, events[EVENTS];
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &in);
    for (;;) {
        int count = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd != listener) {
                serve(events[i].data.fd);
                continue;
            }
            in.data.fd = accept(listener, NULL, NULL);
            if (in.data.fd < 0 || in.data.fd >= MOST) continue;
            setsockopt(in.data.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            epoll_ctl(poll_fd, EPOLL_CTL_ADD, in.data.fd, &in);
        }
        flush_batch();
    }
}
