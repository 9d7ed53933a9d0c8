/* A load generator for publish/subscribe servers: one thread, one epoll set, no protocol of its own.
 *
 * It knows HTTP/1.1 and WebSocket framing; what a protocol says inside them is told by its driver
 * (generator.py), as whole byte strings in which every run of twelve zeros is a hole for a number,
 * and every run of twelve nines one for a channel's number, which is the other modulo `channels`.
 * So a delivery is known by its number alone: the driver puts MARK before one hole of the data.
 *
 * Commands come as lines on stdin, each is answered by one line on stdout, `ok name=value ...` or
 * `error text` (and then the process ends). Bytes are written in hex, "-" stands for none.
 *
 *   server HOST PORT                  where to connect, an IPv4 address
 *   sources FIRST COUNT               the addresses to connect from, in turn: each has its own 28,000 ports
 *   channels COUNT                    how many channels sockets and publishes are spread over; 1 at first
 *   set NAME HEX                      handshake  the request that opens a socket (hole: its number)
 *                                     greeting   what a frame holds before hello may be sent; none: at once
 *                                     hello      frames sent to subscribe (hole: the socket's number)
 *                                     ready      what a frame holds when the socket is subscribed; none: at once
 *                                     publish    the request that publishes (hole: the publish's number)
 *                                     event      the frame that publishes over a socket (same hole)
 *                                     ack        what the frame holds that acknowledges an event
 *   add publish HEX                   one more request to publish with, for protocols that sign each request:
 *                                     they are used in turn, and the n-th holds the number n-1, no hole
 *   open COUNT AT_ONCE SECONDS        open sockets, at most AT_ONCE of them unfinished
 *   run SOURCE SENDERS COUNT SECONDS EXPECT RATE
 *                                     publish COUNT times or for SECONDS over SENDERS connections, each with
 *                                     one publish in flight; it is done when it was acknowledged and EXPECT
 *                                     deliveries of it were seen. SOURCE: http (keep-alive) or socket.
 *                                     RATE: publishes a second, each timed from when it was due; 0: as fast as
 *                                     they are done
 *   hold SECONDS                      only answer pings
 *   close                             close the sockets and the keep-alive connections
 *
 * Every socket must see every publish on its channel once, in one order that all of that channel share:
 * `disorder` counts what does not. Times are in microseconds, `cpu` is this process's seconds of processor.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "histogram.h"
#include "template.h"

enum { MOST_SOCKETS = 65536, MOST_PUBLISHES = 4000000, MOST_REQUESTS = 4096, EVENTS = 512 };
enum { INBOX = 1 << 18, DRAIN_SECONDS = 5, ORDER_UNKNOWN = 0 };

static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="; /* RFC 6455 section 1.3: the answer to its sample nonce */

enum state { FREE, DIALLING, UPGRADING, GREETING, SUBSCRIBING, READY };

struct connection {
    int fd;
    enum state state;
    bool http;      /* a keep-alive connection, not a socket */
    int64_t flight; /* index of the publish that waits for its acknowledgement, -1: none */
    int64_t seen;   /* deliveries of this run */
    uint64_t began; /* when it was dialled */
    char *rest;     /* bytes of an unfinished frame or answer */
    size_t rest_len;
};

struct publish {
    uint64_t sent;
    uint32_t got;
    bool acked;
    bool over_http;
    uint32_t sender;
};

static struct template handshake, greeting, hello, ready, event, ack;
static struct template requests[MOST_REQUESTS]; /* the first is `publish` */
static int64_t request_count = 1;
static struct sockaddr_in server, first_source;
static uint32_t source_count, dialled;
static int64_t channels = 1, pings;
static struct connection sockets[MOST_SOCKETS], senders[MOST_SOCKETS];
static struct connection *idle[MOST_SOCKETS]; /* senders that a paced run may use, a ring: the longest idle first */
static size_t socket_count, sender_count, ready_count, idle_first, idle_count;
static struct histogram to_ready;
static int poll_fd;
static char inbox[INBOX];

static struct { /* the run that is under way */
    struct publish *publishes;
    int64_t *order; /* by place and channel: the number that the first socket that got so far has there, plus 1 */
    int64_t base, sent, most, done, deliveries, disorder, stray;
    uint32_t expect;
    uint64_t until, last, due, every; /* every: nanoseconds between two publishes of a paced run, else 0 */
    bool over_http;
    struct histogram to_ack, to_each, to_last;
} run;

static void answer(const char *format, ...) {
    va_list values;
    va_start(values, format);
    vprintf(format, values);
    va_end(values);
    putchar('\n');
    fflush(stdout);
}

static _Noreturn void fail(const char *what, const char *bytes, size_t len) {
    printf("error %s", what);
    for (size_t i = 0; i < len && i < 600; i++) putchar(bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : ' ');
    answer("");
    exit(1);
}

static _Noreturn void fail_errno(const char *what) {
    char text[200];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    fail(text, "", 0);
}

static uint64_t now(void) { /* nanoseconds */
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

/* ---- connections ---- */

static void send_all(struct connection *c, const char *bytes, size_t len) {
    if (send(c->fd, bytes, len, MSG_NOSIGNAL) != (ssize_t)len) fail_errno("the server takes no more bytes");
}

static void send_filled(struct connection *c, struct template *t, int64_t number) {
    fill(t, number, channels);
    send_all(c, t->bytes, t->len);
}

static void watch(struct connection *c, int how, uint32_t events) {
    struct epoll_event wanted = {.events = events, .data.ptr = c};
    if (epoll_ctl(poll_fd, how, c->fd, &wanted) < 0) fail_errno("epoll_ctl");
}

static void connected(struct connection *c) {
    c->state = c->http ? READY : UPGRADING;
    if (!c->http) send_filled(c, &handshake, c - sockets);
}

/* On loopback a connect is done at once, unless more wait to be accepted than the server has room for. */
static void dial(struct connection *c, bool http) {
    *c = (struct connection){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (c->fd < 0) fail_errno("no more sockets");
    c->http = http, c->flight = -1, c->began = now();
    int yes = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (source_count) {
        struct sockaddr_in source = first_source;
        source.sin_addr.s_addr = htonl(ntohl(source.sin_addr.s_addr) + dialled++ % source_count);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &yes, sizeof yes);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0) fail_errno("cannot bind");
    }
    bool waits = connect(c->fd, (struct sockaddr *)&server, sizeof server) < 0;
    if (waits && errno != EINPROGRESS) fail_errno("cannot connect");
    watch(c, EPOLL_CTL_ADD, waits ? EPOLLOUT : EPOLLIN);
    c->state = DIALLING;
    if (!waits) connected(c);
}

static void dialled_late(struct connection *c) {
    socklen_t size = sizeof errno;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &errno, &size) < 0 || errno) fail_errno("cannot connect");
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    connected(c);
}

static void hang_up(struct connection *c) {
    close(c->fd);
    free(c->rest);
    *c = (struct connection){0};
}

/* For a server that closes after each answer: the same publisher on a new connection. */
static void redial(struct connection *c) {
    int64_t flight = c->flight;
    hang_up(c);
    dial(c, true);
    c->flight = flight;
}

/* ---- the run ---- */

static void launch(struct connection *c, uint64_t at) {
    if (run.sent == run.most || at >= run.until) return;
    int64_t index = run.sent++;
    run.publishes[index] =
        (struct publish){.sent = at, .over_http = c->http, .sender = (uint32_t)(c - (c->http ? senders : sockets))};
    c->flight = index;
    int64_t number = run.base + index;
    if (!c->http || request_count == 1) {
        send_filled(c, c->http ? &requests[0] : &event, number);
    } else { /* signed as it is, so nothing is filled in */
        struct template *signed_request = &requests[number % request_count];
        send_all(c, signed_request->bytes, signed_request->len);
    }
}

static void rest(struct connection *sender) { idle[(idle_first + idle_count++) % MOST_SOCKETS] = sender; }

static void finish_if_done(struct publish *p, uint64_t at) {
    if (!p->acked || p->got < run.expect) return;
    run.done++;
    run.last = at;
    struct connection *sender = p->over_http ? &senders[p->sender] : &sockets[p->sender];
    if (run.every)
        rest(sender);
    else
        launch(sender, at);
}

/* Of a paced run: send what is due, as far as there are senders. What is late counts from when it was due. */
static void launch_due(void) {
    for (uint64_t at = now(); run.due <= at && run.due < run.until && idle_count; run.due += run.every) {
        idle_count--;
        launch(idle[idle_first++ % MOST_SOCKETS], run.due);
    }
}

static void acknowledged(struct connection *c, uint64_t at) {
    if (c->flight < 0) return;
    struct publish *p = &run.publishes[c->flight];
    c->flight = -1;
    p->acked = true;
    note(&run.to_ack, at - p->sent);
    finish_if_done(p, at);
}

static void delivered(struct connection *c, int64_t number, uint64_t at) {
    int64_t index = number - run.base;
    if (run.over_http && request_count > 1) { /* the latest publish that this request was used for */
        int64_t latest = run.base + run.sent - 1;
        index = latest - ((latest - number) % request_count + request_count) % request_count - run.base;
    }
    int64_t channel = (c - sockets) % channels;
    if (index < 0 || index >= run.sent || c->seen * channels >= run.most + channels || number % channels != channel) {
        run.stray++;
        return;
    }
    if (run.over_http) {
        int64_t *place = &run.order[c->seen * channels + channel];
        if (*place == ORDER_UNKNOWN) *place = index + 1;
        if (*place != index + 1) run.disorder++;
    }
    c->seen++;
    run.deliveries++;
    struct publish *p = &run.publishes[index];
    note(&run.to_each, at - p->sent);
    if (++p->got != run.expect) return;
    note(&run.to_last, at - p->sent);
    finish_if_done(p, at);
}

/* ---- what arrives ---- */

static void advance(struct connection *c, const char *bytes, size_t len) {
    if (c->state == GREETING && (greeting.len == 0 || (len && holds(bytes, len, &greeting)))) {
        if (hello.len) send_filled(c, &hello, c - sockets);
        c->state = SUBSCRIBING;
        if (ready.len && greeting.len) return; /* the greeting itself does not count as ready */
    }
    if (c->state == SUBSCRIBING && (ready.len == 0 || (len && holds(bytes, len, &ready)))) {
        c->state = READY;
        ready_count++;
        note(&to_ready, now() - c->began);
    }
}

static void frame(struct connection *c, int opcode, const char *bytes, size_t len, uint64_t at) {
    if (opcode == 8) fail("the server closed a socket: ", len > 2 ? bytes + 2 : bytes, len > 2 ? len - 2 : 0);
    if (opcode == 9) { /* a masked pong; the mask is zero, so the payload stays as it is */
        char pong[131] = {(char)0x8a, (char)(0x80 | len)};
        memcpy(pong + 6, bytes, len);
        send_all(c, pong, 6 + len);
        pings++;
    }
    if (opcode == 0 || opcode > 2) return;
    if (c->state != READY) {
        advance(c, bytes, len);
        return;
    }
    if (c->flight >= 0 && ack.len && holds(bytes, len, &ack)) {
        acknowledged(c, at);
        return;
    }
    size_t from = 0; /* a frame may hold several deliveries */
    for (int64_t number; (number = number_in(bytes, len, &from)) >= 0;) delivered(c, number, at);
}

/* Take one frame off the front. Returns its bytes, 0 when it is not whole. */
static size_t take_frame(struct connection *c, const char *bytes, size_t len, uint64_t at) {
    const unsigned char *b = (const unsigned char *)bytes;
    if (len < 2) return 0;
    size_t head = 2, payload = b[1] & 0x7f;
    if (payload == 126) {
        head = 4;
        if (len < head) return 0;
        payload = (size_t)b[2] << 8 | b[3];
    } else if (payload == 127) {
        head = 10;
        if (len < head) return 0;
        payload = 0;
        for (int i = 2; i < 10; i++) payload = payload << 8 | b[i];
    }
    if (head + payload > INBOX / 2) fail("a frame is too long for the generator", "", 0);
    if (len < head + payload) return 0;
    frame(c, b[0] & 0x0f, bytes + head, payload, at);
    return head + payload;
}

/* Take one HTTP answer off the front, the same way. Bodies are read by their Content-Length. */
static size_t take_answer(struct connection *c, const char *bytes, size_t len, uint64_t at) {
    const char *end = memmem(bytes, len, "\r\n\r\n", 4);
    if (!end) return 0;
    size_t body = 0;
    for (const char *line = bytes; line < end; line = (char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1)
        if (strncasecmp(line, "content-length:", 15) == 0) body = strtoul(line + 15, NULL, 10);
    size_t whole = (size_t)(end + 4 - bytes) + (c->http ? body : 0);
    if (len < whole) return 0;
    if (c->http) {
        if (bytes[9] != '2') fail("a publish was refused: ", bytes, whole);
        if (memmem(bytes, (size_t)(end - bytes), "onnection: close", 16)) redial(c);
        acknowledged(c, at);
    } else {
        if (memcmp(bytes + 9, "101", 3) != 0) fail("a handshake was refused: ", bytes, len);
        if (!memmem(bytes, whole, ACCEPT, sizeof ACCEPT - 1)) fail("a handshake has a wrong accept: ", bytes, whole);
        c->state = GREETING;
        advance(c, "", 0);
    }
    return whole;
}

static void read_from(struct connection *c) {
    if (c->state == DIALLING) {
        dialled_late(c);
        return;
    }
    if (c->rest_len) memcpy(inbox, c->rest, c->rest_len);
    ssize_t got = recv(c->fd, inbox + c->rest_len, INBOX - c->rest_len, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) fail(c->http ? "the server hung up on a publisher" : "the server hung up on a socket", "", 0);
    uint64_t at = now();
    size_t len = c->rest_len + (size_t)got, used = 0;
    for (size_t step = 1; step && used < len; used += step)
        step = (c->http || c->state == UPGRADING ? take_answer : take_frame)(c, inbox + used, len - used, at);
    c->rest_len = len - used;
    free(c->rest);
    c->rest = c->rest_len ? memcpy(malloc(c->rest_len), inbox + used, c->rest_len) : NULL;
}

/* Serve what is ready, waiting at most until `until`. */
static void turn(uint64_t until) {
    static struct epoll_event events[EVENTS];
    uint64_t at = now();
    if (run.every && idle_count && run.due < until) until = run.due;
    int wait_ms = until > at ? (int)((until - at) / 1000000) + !run.every : 0;
    int count = epoll_wait(poll_fd, events, EVENTS, wait_ms);
    for (int i = 0; i < count; i++) read_from(events[i].data.ptr);
}

/* ---- commands ---- */

static uint64_t after(double seconds) { return now() + (uint64_t)(seconds * 1e9); }

static void open_sockets(size_t count, size_t at_once, double seconds) {
    if (socket_count + count > MOST_SOCKETS) fail("too many sockets asked for", "", 0);
    size_t goal = socket_count + count, before = ready_count;
    double cpu = cpu_seconds();
    uint64_t start = now(), until = after(seconds);
    memset(&to_ready, 0, sizeof to_ready);
    while (ready_count < goal && now() < until) {
        while (socket_count < goal && socket_count - ready_count < at_once) dial(&sockets[socket_count++], false);
        turn(until);
    }
    answer("ok opened=%zu seconds=%.6f cpu=%.6f ready50=%.1f ready99=%.1f readymax=%.1f", ready_count - before,
           (double)(now() - start) / 1e9, cpu_seconds() - cpu, quantile_us(&to_ready, .5), quantile_us(&to_ready, .99),
           quantile_us(&to_ready, 1 - 1e-9));
}

static void hold(double seconds) {
    double cpu = cpu_seconds();
    int64_t before = pings;
    for (uint64_t until = after(seconds); now() < until;) turn(until);
    answer("ok seconds=%.6f cpu=%.6f pings=%ld", seconds, cpu_seconds() - cpu, (long)(pings - before));
}

static void run_publishes(bool http, size_t count, int64_t most, double seconds, uint32_t expect, double rate) {
    int64_t base = run.base + run.sent;
    free(run.publishes);
    free(run.order);
    memset(&run, 0, sizeof run);
    if (most > MOST_PUBLISHES || count > MOST_SOCKETS || (!http && count > ready_count))
        fail("more publishes or senders asked for than there can be", "", 0);
    run.base = base, run.most = most, run.expect = expect, run.over_http = http;
    run.publishes = calloc((size_t)most, sizeof *run.publishes);
    run.order = calloc((size_t)(most + 2 * channels), sizeof *run.order);
    for (size_t i = 0; i < socket_count; i++) sockets[i].seen = 0;
    while (http && sender_count < count) dial(&senders[sender_count++], true);

    double cpu = cpu_seconds();
    uint64_t start = now(), give_up = after(seconds + DRAIN_SECONDS);
    run.last = run.due = start, run.until = start + (uint64_t)(seconds * 1e9), run.every = rate > 0 ? (uint64_t)(1e9 / rate) : 0;
    idle_first = idle_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct connection *sender = http ? &senders[i] : &sockets[i];
        if (run.every)
            rest(sender);
        else
            launch(sender, now());
    }
    while ((run.done < run.sent || (run.every && run.due < run.until)) && now() < give_up) {
        if (run.every) launch_due();
        turn(give_up);
    }
    run.every = 0;
    cpu = cpu_seconds() - cpu;
    answer("ok publishes=%ld deliveries=%ld seconds=%.6f cpu=%.6f lost=%ld disorder=%ld stray=%ld "
           "ack50=%.1f ack99=%.1f each50=%.1f each99=%.1f last50=%.1f last99=%.1f",
           (long)run.done, (long)run.deliveries, (double)(run.last - start) / 1e9, cpu, (long)(run.sent - run.done),
           (long)run.disorder, (long)run.stray, quantile_us(&run.to_ack, .5), quantile_us(&run.to_ack, .99),
           quantile_us(&run.to_each, .5), quantile_us(&run.to_each, .99), quantile_us(&run.to_last, .5),
           quantile_us(&run.to_last, .99));
}

static void close_all(void) {
    while (socket_count) hang_up(&sockets[--socket_count]);
    while (sender_count) hang_up(&senders[--sender_count]);
    ready_count = 0;
    answer("ok");
}

static void set(const char *name, const char *hex) {
    const struct { const char *name; struct template *template; } settings[] = {
        {"handshake", &handshake}, {"greeting", &greeting}, {"hello", &hello}, {"ready", &ready},
        {"publish", &requests[0]}, {"event", &event},       {"ack", &ack},
    };
    if (strcmp(name, "publish") == 0) request_count = 1;
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strcmp(name, settings[i].name) == 0) {
            learn(settings[i].template, hex);
            answer("ok");
            return;
        }
    fail("there is no such setting: ", name, strlen(name));
}

int main(void) {
    static char line[1 << 20];
    char *words[7];
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    server.sin_family = AF_INET;
    while (fgets(line, sizeof line, stdin)) {
        int n = 0;
        for (char *w = strtok(line, " \n"); w && n < 7; w = strtok(NULL, " \n")) words[n++] = w;
        if (n == 3 && strcmp(words[0], "server") == 0) {
            server.sin_port = htons((uint16_t)atoi(words[2]));
            if (inet_pton(AF_INET, words[1], &server.sin_addr) != 1) fail("not an IPv4 address", "", 0);
            answer("ok");
        } else if (n == 3 && strcmp(words[0], "sources") == 0) {
            first_source.sin_family = AF_INET, source_count = (uint32_t)atoi(words[2]);
            if (inet_pton(AF_INET, words[1], &first_source.sin_addr) != 1) fail("not an IPv4 address", "", 0);
            answer("ok");
        } else if (n == 2 && strcmp(words[0], "channels") == 0) {
            channels = atol(words[1]);
            answer("ok");
        } else if (n == 2 && strcmp(words[0], "hold") == 0) {
            hold(atof(words[1]));
        } else if (n == 3 && strcmp(words[0], "set") == 0) {
            set(words[1], words[2]);
        } else if (n == 3 && strcmp(words[0], "add") == 0) {
            if (request_count == MOST_REQUESTS) fail("too many requests", "", 0);
            learn(&requests[request_count++], words[2]);
            answer("ok");
        } else if (n == 4 && strcmp(words[0], "open") == 0) {
            open_sockets(strtoul(words[1], NULL, 10), strtoul(words[2], NULL, 10), atof(words[3]));
        } else if (n == 7 && strcmp(words[0], "run") == 0) {
            run_publishes(strcmp(words[1], "http") == 0, strtoul(words[2], NULL, 10), atol(words[3]), atof(words[4]),
                          (uint32_t)strtoul(words[5], NULL, 10), atof(words[6]));
        } else if (n == 1 && strcmp(words[0], "close") == 0) {
            close_all();
        } else {
            fail("there is no such command, or it has other arguments: ", n ? words[0] : "", n ? strlen(words[0]) : 0);
        }
    }
    return 0;
}
