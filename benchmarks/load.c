/*
 * load: backends and traffic for the benchmarks.  One process, one thread, one epoll, nothing but libc; and OpenSSL
 * in a second program of the same source, load-tls (load_tls.c), for --tls.
 *
 *   load serve   --host H --echo P --source P --sink P --web P --udp P
 *                                                                backends; 0 lets the kernel choose, JSON tells the ports
 *   load pingpong --port P --connections N [--size B] [--rate R] echo over held connections; with a rate: an open loop
 *   load connect  --port P --connections C [--rate R] [--reset]  connect, one exchange, close, C at a time
 *   load bulk     --port P --connections N [--up]                as many bytes as pass
 *   load idle     --port P --connections N                       open, exchange one byte, hold
 *   load udp      --port P --connections N                       echo over N flows, one datagram under way in each
 *   load oneway   --port P --sink P --rate R --connections N     datagrams at a steady rate, counted at the other end
 *   load run --cpu N -- PROGRAM ...                              a program on one core that ends with its parent
 *
 * pingpong, connect, bulk and idle: --tls speaks TLS to the proxy, --resume with the ticket of the connection before;
 * --http exchanges a request and its response instead of bytes and their echo.
 *
 * Every client prints {"ready": ...} once its connections stand, and one JSON object with its result.  With --wait it
 * begins only when a line comes on stdin, and closes its connections only when stdin ends; so whoever measures the
 * proxy meanwhile sees the traffic alone.  Everything ends by itself (alarm(2)), whatever the peers do.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load_tls.h"

#define SECOND 1000000000ull
#define MILLISECOND 1000000ull
#define EVENTS 512
#define CHUNK (256 << 10)         /* bytes of a bulk read or write: fits the second-level cache */
#define AT_ONCE 128               /* connections being opened at a time: less than any peer's backlog */
#define PATIENCE (5 * SECOND)     /* for one exchange; nothing here takes so long unless it is lost */
#define DATAGRAM_PATIENCE (200 * MILLISECOND)
#define GRACE 60                  /* seconds beyond the measured ones until alarm(2) ends the process */

static struct {
    const char *host;
    int port, echo, source, sink, web, udp, connections, size, cpu, sources;
    double seconds, rate, setup;
    bool reset, up, wait, http, tls, resume;
} o = {.host = "127.0.0.1", .echo = -1, .source = -1, .sink = -1, .web = -1, .udp = -1, .connections = 1, .size = 128,
       .cpu = -1, .sources = 1, .seconds = 3, .setup = 30};

static char buffer[1 << 20];
static int epoll;

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- errors: counted by name ------------------------------------------------------------------------------------ */

static struct fault { char name[48]; uint64_t count; } faults[16];

static void fault(const char *what, int error)
{
    char name[48];
    const char *cause = error ? strerrorname_np(error) : NULL;
    snprintf(name, sizeof name, "%s%s%s", what, cause ? " " : "", cause ? cause : "");
    for (struct fault *f = faults; f < faults + 16; f++) {
        if (!f->count)
            strcpy(f->name, name);
        if (!strcmp(f->name, name)) {
            f->count++;
            return;
        }
    }
}

static uint64_t fault_count(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += faults[i].count;
    return sum;
}

static void print_faults(void)
{
    printf("\"errors\": {");
    for (int i = 0; i < 16 && faults[i].count; i++)
        printf("%s\"%s\": %llu", i ? ", " : "", faults[i].name, (unsigned long long)faults[i].count);
    printf("}");
}

static _Noreturn void give_up(const char *format, ...)
{
    va_list arguments;
    printf("{\"error\": \"");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\", ");
    print_faults();
    printf("}\n");
    exit(1);
}

static int must(int result, const char *what)
{
    if (result < 0)
        give_up("%s: %s", what, strerror(errno));
    return result;
}

/* ---- latencies: a histogram of logarithmic buckets, 64 to each power of two, so 1.6 % wide -------------------- */

#define SUB_BITS 6
#define BUCKETS ((65 - SUB_BITS) << SUB_BITS)
static uint64_t histogram[BUCKETS], samples, slowest;

static void record(uint64_t nanoseconds)
{
    int shift = 0;
    if (nanoseconds >> SUB_BITS)
        shift = 63 - __builtin_clzll(nanoseconds) - SUB_BITS;
    histogram[((uint64_t)shift << SUB_BITS) + (nanoseconds >> shift)]++;
    samples++;
    if (nanoseconds > slowest)
        slowest = nanoseconds;
}

static double percentile(double share)
{
    uint64_t wanted = (uint64_t)(share * samples), seen = 0;
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > wanted) {
            int shift = i >> (SUB_BITS + 1) ? (i >> SUB_BITS) - 1 : 0;
            uint64_t lowest = (uint64_t)(i - (shift << SUB_BITS)) << shift;
            double middle = lowest + (1ull << shift) / 2.0;
            return (middle < slowest ? middle : slowest) / 1000.0;
        }
    return slowest / 1000.0;
}

static void print_latency(void)
{
    printf("\"latency_us\": {\"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}, ",
           percentile(.5), percentile(.9), percentile(.99), percentile(.999), slowest / 1000.0);
}

/* ---- phases ----------------------------------------------------------------------------------------------------- */

static uint64_t begun;

/* Say that all is set up and, with --wait, stay until a line comes on stdin. */
static void ready(void)
{
    printf("{\"ready\": %d}\n", o.connections);
    fflush(stdout);
    if (o.wait && read(STDIN_FILENO, buffer, 64) <= 0)
        exit(0);
    begun = now();
}

static void finish(void)
{
    print_faults();
    printf("}\n");
    fflush(stdout);
    if (o.wait)
        while (read(STDIN_FILENO, buffer, 64) > 0)
            ;
    exit(0);
}

static void print_operations(uint64_t operations)
{
    printf("{\"operations\": %llu, \"seconds\": %.6f, ", (unsigned long long)operations, (now() - begun) / 1e9);
}

/* ---- sockets ------------------------------------------------------------------------------------------------------ */

static struct sockaddr_in address(const char *host, int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
        give_up("%s is not an IPv4 address", host);
    return a;
}

static void set(int fd, int level, int name, int value)
{
    setsockopt(fd, level, name, &value, sizeof value);
}

static void widen(int fd)
{
    set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20);
    set(fd, SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20);
}

static void watch(int fd, uint32_t events, uint32_t id)
{
    struct epoll_event event = {.events = events, .data.u32 = id};
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

/* Wait for events until `until` (nanoseconds), at most 100 ms. */
static int wait_until(struct epoll_event *events, uint64_t until)
{
    uint64_t t = now(), left = until > t ? until - t : 0;
    if (left > 100 * MILLISECOND)
        left = 100 * MILLISECOND;
    struct timespec limit = {.tv_nsec = (long)left};
    int n = epoll_pwait2(epoll, events, EVENTS, &limit, NULL);
    return n < 0 && errno == EINTR ? 0 : must(n, "epoll_pwait2");
}

/* A non-blocking connection on its way to the proxy; -1 with the fault counted if it could not even start. */
static int dial(void)
{
    static uint32_t turn;
    struct sockaddr_in to = address(o.host, o.port);
    int fd = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (o.sources > 1) { /* one address has only so many ports: take the machine's next ones in turn */
        struct sockaddr_in from = {.sin_family = AF_INET};
        socklen_t size = sizeof from;
        static in_addr_t first;
        if (!first) {
            int probe = socket(AF_INET, SOCK_DGRAM, 0);
            must(connect(probe, (struct sockaddr *)&to, sizeof to), "route");
            getsockname(probe, (struct sockaddr *)&from, &size);
            first = ntohl(from.sin_addr.s_addr);
            close(probe);
        }
        from.sin_port = 0;
        from.sin_addr.s_addr = htonl(first + turn++ % o.sources);
        set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        must(bind(fd, (struct sockaddr *)&from, sizeof from), "bind");
    }
    if (connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS) {
        fault("connect", errno);
        close(fd);
        return -1;
    }
    return fd;
}

static void reset_on_close(int fd)
{
    struct linger now_and_rudely = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now_and_rudely, sizeof now_and_rudely);
}

/* ---- serve: echo, source, sink, HTTP, UDP echo ------------------------------------------------------------------- */

enum role { NOTHING, LISTEN_ECHO, LISTEN_SOURCE, LISTEN_SINK, LISTEN_WEB, UDP_ECHO, ECHO, SOURCE, SINK, WEB, STDIN };

static int bound(int type, int port, const char *name)
{
    struct sockaddr_in a = address(o.host, port);
    socklen_t size = sizeof a;
    int fd = must(socket(AF_INET, type | SOCK_NONBLOCK, 0), "socket");
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    must(bind(fd, (struct sockaddr *)&a, sizeof a), "bind");
    if (type == SOCK_STREAM)
        must(listen(fd, 4096), "listen");
    else
        widen(fd);
    getsockname(fd, (struct sockaddr *)&a, &size);
    if (name)
        printf("\"%s\": %d, ", name, ntohs(a.sin_port));
    return fd;
}

#define BATCH 32
static void echo_datagrams(int fd)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    static struct sockaddr_in peers[BATCH];
    for (int i = 0; i < BATCH; i++) {
        vectors[i] = (struct iovec){buffer + i * (sizeof buffer / BATCH), sizeof buffer / BATCH};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &vectors[i], .msg_iovlen = 1};
    }
    int n = recvmmsg(fd, messages, BATCH, 0, NULL);
    for (int i = 0; i < n; i++)
        vectors[i].iov_len = messages[i].msg_len;
    for (int sent = 0, k; sent < n; sent += k)
        if ((k = sendmmsg(fd, messages + sent, n - sent, 0)) <= 0)
            k = 1; /* this one's socket is gone or full: the client counts it as lost */
}

#define DOTS "................................"
static const char RESPONSE[] = "HTTP/1.1 200 OK\r\nServer: load\r\nDate: Sat, 31 Jan 2026 12:00:00 GMT\r\n"
                               "Content-Type: text/plain\r\nContent-Length: 128\r\nCache-Control: max-age=60\r\n\r\n"
                               DOTS DOTS DOTS DOTS;

/* A response for each end of a head; requests here have no body. */
static bool answer_requests(int fd, ssize_t n)
{
    static uint8_t seen[1 << 20]; /* characters of "\r\n\r\n" that each connection has sent last */
    for (ssize_t i = 0; i < n; i++) {
        seen[fd] = buffer[i] == "\r\n\r\n"[seen[fd]] ? seen[fd] + 1 : buffer[i] == '\r';
        if (seen[fd] == 4) {
            seen[fd] = 0;
            if (send(fd, RESPONSE, sizeof RESPONSE - 1, MSG_NOSIGNAL) != sizeof RESPONSE - 1)
                return false;
        }
    }
    return true;
}

static bool serve_connection(int fd, enum role role)
{
    ssize_t n;
    if (role == SOURCE)
        return send(fd, buffer, CHUNK, MSG_NOSIGNAL) >= 0 || errno == EAGAIN;
    n = recv(fd, buffer, CHUNK, 0);
    if (n < 0)
        return errno == EAGAIN;
    if (role == WEB)
        return n > 0 && answer_requests(fd, n);
    if (role == ECHO && n > 0 && send(fd, buffer, n, MSG_NOSIGNAL) != n) {
        fprintf(stderr, "load serve: echo is for short messages; this client does not read them\n");
        return false;
    }
    return n > 0;
}

static void serve(void)
{
    struct epoll_event events[EVENTS];
    static enum role roles[1 << 20];
    struct { int port, type; enum role role; const char *name; } wanted[] = {
        {o.echo, SOCK_STREAM, LISTEN_ECHO, "echo"}, {o.source, SOCK_STREAM, LISTEN_SOURCE, "source"},
        {o.sink, SOCK_STREAM, LISTEN_SINK, "sink"}, {o.web, SOCK_STREAM, LISTEN_WEB, "web"},
        {o.udp, SOCK_DGRAM, UDP_ECHO, "udp"}};
    printf("{");
    for (unsigned i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].port >= 0) {
            int fd = bound(wanted[i].type, wanted[i].port, wanted[i].name);
            roles[fd] = wanted[i].role;
            watch(fd, EPOLLIN, fd);
        }
    if (o.wait) {
        roles[STDIN_FILENO] = STDIN;
        watch(STDIN_FILENO, EPOLLIN, STDIN_FILENO);
    }
    printf("\"host\": \"%s\"}\n", o.host);
    fflush(stdout);
    for (;;) {
        int n = wait_until(events, now() + SECOND);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.u32, client;
            enum role role = roles[fd];
            if (role == STDIN)
                exit(0);
            if (role == UDP_ECHO)
                echo_datagrams(fd);
            else if (role >= LISTEN_ECHO && role <= LISTEN_WEB)
                for (int k = 0; k < 64 && (client = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0; k++) {
                    roles[client] = role - LISTEN_ECHO + ECHO;
                    watch(client, role == LISTEN_SOURCE ? EPOLLOUT : EPOLLIN, client);
                }
            else if (!serve_connection(fd, role))
                close(fd);
        }
    }
}

/* ---- connections that are opened first and used then -------------------------------------------------------------- */

struct connection {
    int fd;
    struct tls *tls;  /* NULL without --tls */
    bool shaken;      /* hands, with --tls */
    int got, want;    /* bytes of the answer so far and in all; 0 while a response has not said how many */
    bool busy;        /* an answer is due */
    uint64_t since;   /* when the operation began, or should have */
    uint64_t turns;   /* operations begun: the schedule of an open loop */
};

static uint64_t resumed; /* TLS sessions */

static bool start(struct connection *c, uint32_t index)
{
    c->got = 0;
    c->busy = c->shaken = false;
    c->fd = dial();
    c->tls = o.tls && c->fd >= 0 ? tls_begin(c->fd, o.resume ? (int)index : NO_TICKET) : NULL;
    return c->fd >= 0;
}

static void end_connection(struct connection *c)
{
    if (c->tls)
        tls_end(c->tls, !o.reset);
    if (o.reset)
        reset_on_close(c->fd);
    close(c->fd);
    c->fd = -1;
    c->tls = NULL;
}

static ssize_t put(struct connection *c, const void *data, size_t size)
{
    return c->tls ? tls_send(c->tls, data, size) : send(c->fd, data, size, MSG_NOSIGNAL);
}

static ssize_t take(struct connection *c, void *into, size_t size)
{
    return c->tls ? tls_recv(c->tls, into, size) : recv(c->fd, into, size, 0);
}

/* Go on with the handshake; whether it is done. If not, errno says why. */
static bool shake(struct connection *c)
{
    if (!c->tls || c->shaken)
        return true;
    c->shaken = tls_handshake(c->tls);
    resumed += c->shaken && tls_resumed(c->tls);
    return c->shaken;
}

/* Ask for an answer. Errors: false, and errno; EAGAIN if the connection does not stand yet. */
static bool say(struct connection *c)
{
    static uint64_t number;
    static char request[1024];
    const void *data = buffer;
    ssize_t size = o.size;
    if (o.http) { /* what a browser sends, each time for another path */
        data = request;
        size = snprintf(request, sizeof request,
                        "GET /orders/%llu?page=2 HTTP/1.1\r\nHost: bench.example:%d\r\n"
                        "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
                        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
                        "Accept-Language: en-GB,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"
                        "Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n"
                        "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\r\n",
                        (unsigned long long)number++, o.port);
    }
    c->got = 0;
    c->want = o.http ? 0 : o.size;
    return put(c, data, size) == size;
}

/* How long the response in `buffer` is with its head, as far as it says; 0 if that is not what this program can read. */
static int length_of_response(ssize_t n)
{
    buffer[n] = 0;
    const char *end = strstr(buffer, "\r\n\r\n"), *length = strcasestr(buffer, "\r\nContent-Length: ");
    if (strncmp(buffer, "HTTP/1.1 200", 12) || !end || !length || length > end)
        return 0;
    return end + 4 - buffer + atoi(length + 18);
}

/* Read an answer: 1 if it is whole, 0 if more has to come, -1 if nothing will; with errno, which is 0 at an end. */
static int hear(struct connection *c)
{
    for (;;) {
        ssize_t n = take(c, buffer, sizeof buffer - 1);
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        if (!c->want && n)
            c->want = length_of_response(n);
        if (!n || !c->want) {
            errno = n ? EBADMSG : 0;
            return -1;
        }
        if ((c->got += n) >= c->want) {
            c->busy = false;
            return 1;
        }
    }
}

static struct connection *open_all(bool exchange)
{
    struct connection *all = calloc(o.connections, sizeof *all);
    struct epoll_event events[EVENTS];
    uint64_t deadline = now() + o.setup * 1e9;
    int dialled = 0, done = 0, under_way = 0;
    while (done < o.connections) {
        for (; under_way < AT_ONCE && dialled < o.connections; dialled++, under_way++) {
            if (!start(&all[dialled], dialled))
                give_up("set-up: connection %d of %d", dialled + 1, o.connections);
            watch(all[dialled].fd, EPOLLOUT, dialled);
        }
        int n = wait_until(events, deadline);
        if (now() >= deadline)
            give_up("set-up: %d of %d connections within %g s", done, o.connections, o.setup);
        for (int i = 0; i < n; i++) {
            struct connection *c = &all[events[i].data.u32];
            if (!c->busy) { /* connected: ask */
                int error = 0;
                socklen_t size = sizeof error;
                getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
                bool ready = !error && shake(c);
                if (!error && (ready ? exchange && !say(c) : errno != EAGAIN))
                    error = errno;
                if (error) {
                    fault("connect", error);
                    give_up("set-up: connection %d of %d", done + 1, o.connections);
                }
                c->busy = exchange && ready;
                if (exchange || !ready) {
                    struct epoll_event event = {.events = EPOLLIN, .data.u32 = events[i].data.u32};
                    epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event);
                    continue;
                }
                epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL); /* a source sends at once: not a look before the start */
            } else {
                int heard = hear(c);
                if (heard < 0) {
                    fault(errno ? "exchange" : "closed", errno);
                    give_up("set-up: connection %d of %d", done + 1, o.connections);
                }
                if (!heard)
                    continue;
            }
            done++;
            under_way--;
        }
    }
    return all;
}

/* ---- pingpong ------------------------------------------------------------------------------------------------------ */

static int alive;

static void lose(struct connection *c, const char *what, int error)
{
    fault(what, error);
    close(c->fd);
    c->fd = -1;
    c->busy = false;
    alive--;
}

static void ask(struct connection *c, uint64_t since)
{
    c->since = since;
    c->turns++;
    c->busy = true;
    if (!say(c))
        lose(c, "send", errno);
}

/* Whether an operation is complete. */
static bool answered(struct connection *c)
{
    int heard = hear(c);
    if (heard < 0)
        lose(c, errno ? "recv" : "closed", errno);
    return heard > 0;
}

static void pingpong(void)
{
    struct connection *all = open_all(true);
    struct epoll_event events[EVENTS];
    double period = o.rate ? 1e9 / o.rate : 0; /* nanoseconds between operations of the open loop, over all connections */
    uint64_t operations = 0, next = 0, unfinished = 0, t;
    alive = o.connections;
    ready();
    uint64_t end = begun + o.seconds * 1e9;
    if (!o.rate)
        for (int i = 0; i < o.connections; i++)
            ask(&all[i], now());
    while ((t = now()) < end && alive) {
        /* The open loop: operation k is due at begun + k * period on connection k mod N, whatever the answers do. */
        for (; o.rate && begun + next * period <= t; next++) {
            struct connection *c = &all[next % o.connections];
            if (c->fd >= 0 && !c->busy)
                ask(c, begun + (c->turns * o.connections + next % o.connections) * period);
        }
        int n = wait_until(events, o.rate && begun + next * period < end ? begun + next * period : end);
        for (int i = 0; i < n; i++) {
            uint32_t index = events[i].data.u32;
            struct connection *c = &all[index];
            if (c->fd < 0 || !answered(c))
                continue;
            t = now();
            record(t - c->since);
            operations++;
            if (!o.rate)
                ask(c, t);
            else {
                uint64_t due = begun + (c->turns * o.connections + index) * period;
                if (due <= t)
                    ask(c, due); /* late already: its latency counts from when it was due */
            }
        }
    }
    t = now();
    for (int i = 0; o.rate && i < o.connections; i++) { /* what was due and never answered is as slow as it is old */
        struct connection *c = &all[i];
        if (c->busy && t - c->since > 10 * MILLISECOND) {
            record(t - c->since);
            unfinished++;
        }
    }
    print_operations(operations);
    print_latency();
    printf("\"unfinished\": %llu, \"lost\": %d, ", (unsigned long long)unfinished, o.connections - alive);
    finish();
}

/* ---- connect --------------------------------------------------------------------------------------------------------- */

/* Shake hands and ask, as far as that goes without waiting. */
static void go_on(struct connection *c)
{
    c->busy = shake(c) && say(c);
}

/* Begin anew: connect, and go on at once where the kernel has finished its handshake already, as it has on loopback. */
static void begin(struct connection *c, uint32_t index, uint64_t since)
{
    c->since = since;
    if (!start(c, index))
        return;
    watch(c->fd, EPOLLIN | EPOLLOUT | EPOLLET, index);
    go_on(c);
    if (!c->busy && errno != EAGAIN) {
        fault("connect", errno);
        end_connection(c);
    }
}

/* One event of one connection; whether its cycle is over, well or not. */
static bool step(struct connection *c, uint64_t *operations)
{
    if (!c->busy) {
        go_on(c);
        if (!c->busy && errno == EAGAIN)
            return false;
        if (!c->busy) {
            fault("connect", errno);
            return true;
        }
    }
    int heard = hear(c);
    if (heard < 0)
        fault(errno ? "recv" : "closed", errno);
    if (heard > 0) {
        record(now() - c->since);
        ++*operations;
    }
    return heard;
}

static void connect_rate(void)
{
    struct connection *all = calloc(o.connections, sizeof *all);
    struct epoll_event events[EVENTS];
    double period = o.rate ? 1e9 / o.rate : 0;
    uint64_t operations = 0, next = 0, looked = 0, t;
    for (int i = 0; i < o.connections; i++)
        all[i].fd = -1;
    ready();
    uint64_t end = begun + o.seconds * 1e9;
    uint64_t seen = 0; /* faults at the last look; after another, free slots wait for the next, lest refusals spin */
    while ((t = now()) < end) {
        bool look = t - looked > 10 * MILLISECOND;
        if (look || fault_count() == seen)
            for (int i = 0; i < o.connections; i++)
                if (all[i].fd < 0 && (!o.rate || begun + next * period <= t))
                    begin(&all[i], i, o.rate ? begun + next++ * period : t);
        if (look) {
            looked = t;
            seen = fault_count();
            for (int i = 0; i < o.connections; i++)
                if (all[i].fd >= 0 && t > all[i].since + PATIENCE) {
                    fault("timeout", 0);
                    end_connection(&all[i]);
                }
        }
        uint64_t until = t + 10 * MILLISECOND;
        if (o.rate && begun + next * period < until)
            until = begun + next * period > t ? begun + next * period : t + MILLISECOND;
        int n = wait_until(events, until < end ? until : end);
        for (int i = 0; i < n; i++) {
            uint32_t index = events[i].data.u32;
            struct connection *c = &all[index];
            if (c->fd < 0 || !step(c, &operations))
                continue;
            end_connection(c);
            if (fault_count() == seen && !o.rate)
                begin(c, index, now());
        }
    }
    print_operations(operations);
    print_latency();
    printf("\"resumed\": %llu, ", (unsigned long long)resumed);
    finish();
}

/* ---- bulk -------------------------------------------------------------------------------------------------------------- */

static void bulk(void)
{
    struct connection *all = open_all(false);
    struct epoll_event events[EVENTS];
    uint64_t *bytes = calloc(o.connections, sizeof *bytes), total = 0, least = UINT64_MAX;
    ready();
    for (int i = 0; i < o.connections; i++)
        watch(all[i].fd, o.up ? EPOLLOUT : EPOLLIN, i);
    uint64_t end = begun + o.seconds * 1e9;
    alive = o.connections;
    while (now() < end && alive) {
        int n = wait_until(events, end);
        for (int i = 0; i < n; i++) {
            uint32_t index = events[i].data.u32;
            struct connection *c = &all[index];
            ssize_t moved = o.up ? put(c, buffer, CHUNK) : take(c, buffer, CHUNK);
            if (moved > 0)
                bytes[index] += moved;
            else if (moved == 0 || errno != EAGAIN)
                lose(c, moved ? (o.up ? "send" : "recv") : "closed", moved ? errno : 0);
        }
    }
    for (int i = 0; i < o.connections; i++) {
        total += bytes[i];
        least = bytes[i] < least ? bytes[i] : least;
    }
    print_operations(total);
    printf("\"streams\": %d, \"least\": %llu, ", o.connections, (unsigned long long)least);
    finish();
}

/* ---- idle ----------------------------------------------------------------------------------------------------------------- */

static void idle(void)
{
    o.size = 1;
    open_all(true);
    ready();
    print_operations(o.connections);
    finish();
}

/* ---- udp ------------------------------------------------------------------------------------------------------------------- */

struct flow {
    int fd;
    uint64_t number, since;
    bool busy;
};

static void send_numbered(struct flow *f, uint64_t t)
{
    f->number++;
    f->since = t;
    f->busy = true;
    memcpy(buffer, &f->number, sizeof f->number);
    if (send(f->fd, buffer, o.size, 0) < 0)
        fault("send", errno);
}

/* Whether the answer to the newest datagram has come; older ones are late and count as lost already. */
static bool echoed(struct flow *f, uint64_t *late)
{
    uint64_t number;
    ssize_t n = recv(f->fd, buffer, sizeof buffer, 0);
    if (n < 0 && errno != EAGAIN)
        fault("recv", errno);
    if (n < (ssize_t)sizeof number)
        return false;
    memcpy(&number, buffer, sizeof number);
    if (number != f->number || !f->busy) {
        ++*late;
        return false;
    }
    f->busy = false;
    return true;
}

static void open_flows(struct flow *all, int port)
{
    struct sockaddr_in to = address(o.host, port);
    for (int i = 0; i < o.connections; i++) {
        all[i].fd = must(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), "socket");
        must(connect(all[i].fd, (struct sockaddr *)&to, sizeof to), "connect");
    }
}

/* Exchange until `end`, or until every flow has been answered once. */
static void exchange_datagrams(struct flow *all, uint64_t end, bool once, uint64_t *operations, uint64_t *lost,
                               uint64_t *late)
{
    struct epoll_event events[EVENTS];
    uint64_t t, looked = 0;
    int waiting = o.connections;
    while ((t = now()) < end && (!once || waiting)) {
        if (t - looked > 20 * MILLISECOND) { /* time for those that wait too long; at first, for all */
            looked = t;
            for (int i = 0; i < o.connections; i++) {
                if (all[i].busy && t - all[i].since > DATAGRAM_PATIENCE) {
                    ++*lost;
                    all[i].busy = false;
                }
                if (!all[i].busy && (!once || !all[i].number || all[i].since))
                    send_numbered(&all[i], t);
            }
        }
        int n = wait_until(events, t + 20 * MILLISECOND < end ? t + 20 * MILLISECOND : end);
        for (int i = 0; i < n; i++) {
            struct flow *f = &all[events[i].data.u32];
            if (!echoed(f, late))
                continue;
            if (once) {
                f->since = 0;
                waiting--;
                continue;
            }
            t = now();
            record(t - f->since);
            ++*operations;
            send_numbered(f, t);
        }
    }
    if (once && waiting)
        give_up("set-up: %d of %d flows were not answered", waiting, o.connections);
}

static void udp(void)
{
    struct flow *all = calloc(o.connections, sizeof *all);
    uint64_t operations = 0, lost = 0, late = 0, ignored = 0;
    open_flows(all, o.port);
    for (int i = 0; i < o.connections; i++)
        watch(all[i].fd, EPOLLIN, i);
    exchange_datagrams(all, now() + 10 * SECOND, true, &ignored, &ignored, &ignored);
    ready();
    exchange_datagrams(all, begun + o.seconds * 1e9, false, &operations, &lost, &late);
    print_operations(operations);
    print_latency();
    printf("\"lost\": %llu, \"late\": %llu, ", (unsigned long long)lost, (unsigned long long)late);
    finish();
}

static uint64_t take_datagrams(int fd)
{
    static struct mmsghdr messages[BATCH];
    static struct iovec vectors[BATCH];
    uint64_t taken = 0;
    for (int n = BATCH; n == BATCH; taken += n > 0 ? n : 0) {
        for (int i = 0; i < BATCH; i++) {
            vectors[i] = (struct iovec){buffer + i * 2048, 2048};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
        }
        n = recvmmsg(fd, messages, BATCH, MSG_DONTWAIT, NULL);
    }
    return taken;
}

static void oneway(void)
{
    struct flow *all = calloc(o.connections, sizeof *all);
    struct epoll_event events[EVENTS];
    uint64_t sent = 0, received = 0, t;
    int sink = bound(SOCK_DGRAM, o.sink, NULL);
    if (!o.rate)
        give_up("oneway needs --rate");
    open_flows(all, o.port);
    for (int i = 0; i < o.connections; i++) /* the flows exist before the clock runs */
        must(send(all[i].fd, buffer, o.size, 0), "send");
    usleep(300000);
    if (take_datagrams(sink) < (uint64_t)o.connections)
        give_up("set-up: not every flow reached the sink");
    watch(sink, EPOLLIN, 0);
    ready();
    uint64_t end = begun + o.seconds * 1e9;
    while ((t = now()) < end + DATAGRAM_PATIENCE) {
        for (uint64_t due = t < end ? (t - begun) / 1e9 * o.rate : sent; sent < due; sent++)
            if (send(all[sent % o.connections].fd, buffer, o.size, 0) < 0)
                fault("send", errno);
        wait_until(events, t + MILLISECOND);
        received += take_datagrams(sink);
        if (t >= end && received == sent)
            break;
    }
    print_operations(received);
    printf("\"sent\": %llu, \"lost\": %llu, ", (unsigned long long)sent, (unsigned long long)(sent - received));
    finish();
}

/* ---- run ---------------------------------------------------------------------------------------------------------------------- */

static void run(char **program)
{
    if (!*program)
        give_up("run needs a program");
    execvp(*program, program);
    fprintf(stderr, "%s: %s\n", *program, strerror(errno));
    exit(127);
}

/* ---- main --------------------------------------------------------------------------------------------------------------------- */

static const struct option OPTIONS[] = {
    {"host", 1, 0, 'h'},  {"port", 1, 0, 'p'},        {"echo", 1, 0, 'e'},    {"source", 1, 0, 's'},
    {"sink", 1, 0, 'k'},  {"udp", 1, 0, 'u'},         {"size", 1, 0, 'b'},    {"connections", 1, 0, 'n'},
    {"rate", 1, 0, 'r'},  {"seconds", 1, 0, 't'},     {"reset", 0, 0, 'x'},   {"up", 0, 0, 'U'},
    {"wait", 0, 0, 'w'},  {"cpu", 1, 0, 'c'},         {"sources", 1, 0, 'a'}, {"setup", 1, 0, 'S'},
    {"web", 1, 0, 'W'},   {"http", 0, 0, 'H'},        {"tls", 0, 0, 'T'},     {"resume", 0, 0, 'R'},
    {0}};

static void read_options(int count, char **words)
{
    for (int option; (option = getopt_long(count, words, "+", OPTIONS, NULL)) != -1;)
        switch (option) {
        case 'h': o.host = optarg; break;
        case 'p': o.port = atoi(optarg); break;
        case 'e': o.echo = atoi(optarg); break;
        case 's': o.source = atoi(optarg); break;
        case 'k': o.sink = atoi(optarg); break;
        case 'u': o.udp = atoi(optarg); break;
        case 'b': o.size = atoi(optarg); break;
        case 'n': o.connections = atoi(optarg); break;
        case 'r': o.rate = atof(optarg); break;
        case 't': o.seconds = atof(optarg); break;
        case 'a': o.sources = atoi(optarg); break;
        case 'S': o.setup = atof(optarg); break;
        case 'c': o.cpu = atoi(optarg); break;
        case 'x': o.reset = true; break;
        case 'U': o.up = true; break;
        case 'w': o.wait = true; break;
        case 'W': o.web = atoi(optarg); break;
        case 'H': o.http = true; break;
        case 'T': o.tls = true; break;
        case 'R': o.resume = true; break;
        default: exit(2);
        }
    if (o.connections < 1 || o.size < 8 || o.size > 65536 || o.seconds <= 0 || o.seconds > 3600 || o.rate < 0)
        give_up("out of bounds: connections >= 1, 8 <= size <= 65536, 0 < seconds <= 3600, rate >= 0");
    if (o.tls && !HAS_TLS)
        give_up("this program was built without OpenSSL; --tls is for load-tls");
}

/* One core, all the descriptors there are, and an end together with the parent. */
static void settle(void)
{
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    must(prctl(PR_SET_PDEATHSIG, SIGTERM), "prctl");
    if (o.cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(o.cpu, &cpus);
        must(sched_setaffinity(0, sizeof cpus, &cpus), "sched_setaffinity");
    }
}

int main(int count, char **words)
{
    static const struct { const char *name; void (*run)(void); } modes[] = {
        {"serve", serve}, {"pingpong", pingpong}, {"connect", connect_rate}, {"bulk", bulk},
        {"idle", idle},   {"udp", udp},           {"oneway", oneway}};
    if (count < 2) {
        fprintf(stderr, "usage: load serve|pingpong|connect|bulk|idle|udp|oneway|run [options]; see load.c\n");
        return 2;
    }
    const char *mode = words[1];
    read_options(count - 1, words + 1);
    settle();
    if (!strcmp(mode, "run"))
        run(words + 1 + optind);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    prctl(PR_SET_TIMERSLACK, 1000); /* nanoseconds: an open loop is as exact as its timer */
    alarm(o.seconds + GRACE);
    epoll = must(epoll_create1(0), "epoll_create1");
    for (unsigned i = 0; i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(mode, modes[i].name)) {
            modes[i].run();
            return 0;
        }
    fprintf(stderr, "load: no mode %s\n", mode);
    return 2;
}
