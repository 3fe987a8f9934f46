// load.c - closed-loop / fixed-rate HTTP load generator that understands SSE. One thread, epoll.
// usage: load -p PORT -u PATH -c CONNS -d SECS [-w WARMUP_SECS] [-R RATE] [-H "Header: v"]... (-b BODY | -f FILE)
// -R RATE: open loop at RATE requests/s over at most CONNS connections; latency counts from the scheduled time.
// One JSON line: rps, ok, bad, err, latency (whole answer) and ttfb (first body byte) percentiles in us, events
// ("data:" seen), bytes.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
typedef struct {
    int fd, st, chunked, clen_known, status, busy, sent, closeafter;
    long long clen, t0, tf, clast;
    char h[16384];
    int hl;
    int cst;
    long long cn;
    int dm;
} C;
static char req[1 << 20];
static int rl;
static int ep;
static int port = 9000, nc = 1;
static C* cs;
static unsigned *L, *F, *G;
static size_t cap = 8000000, n = 0, ng = 0;
static long long ok = 0, bad = 0, err = 0, ev_ = 0, by = 0, sched = 0, dropped = 0;
static long long tw, te;
static int firstbad = 1;
static double rate = 0;
static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}
static int cmp(const void* a, const void* b) {
    unsigned x = *(unsigned*)a, y = *(unsigned*)b;
    return x < y ? -1 : x > y;
}
static int conn_(int i) {
    C* c = &cs[i];
    int f = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(f, (void*)&a, sizeof a)) {
        close(f);
        c->fd = -1;
        return -1;
    }
    setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = f;
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
    epoll_ctl(ep, EPOLL_CTL_ADD, f, &e);
    return 0;
}
static void start(int i, long long t0) {
    C* c = &cs[i];
    for (int tries = 0; tries < 2; tries++) {
        if (c->fd < 0 && conn_(i)) {
            err++;
            return;
        }
        c->st = 0;
        c->hl = 0;
        c->chunked = 0;
        c->clen_known = 0;
        c->clen = 0;
        c->t0 = t0;
        c->tf = 0;
        c->cst = 0;
        c->cn = 0;
        c->dm = 0;
        c->busy = 1;
        c->closeafter = 0;
        c->clast = 0;
        ssize_t w = send(c->fd, req, rl, MSG_NOSIGNAL);
        if (w == rl) return;
        close(c->fd);
        c->fd = -1;
        c->busy = 0;
    }
    err++;
}
static void fin(int i) {
    C* c = &cs[i];
    long long t = now();
    c->busy = 0;
    if (c->status == 200) {
        if (t >= tw && t < te) {
            ok++;
            if (n < cap) {
                L[n] = t - c->t0;
                F[n] = (c->tf ? c->tf : t) - c->t0;
                n++;
            }
        }
    } else {
        if (t >= tw && t < te) bad++;
        if (firstbad) {
            firstbad = 0;
            c->h[c->hl < 16383 ? c->hl : 16383] = 0;
            fprintf(stderr, "first bad status %d: %.600s\n", c->status, c->h);
        }
    }
    if (c->closeafter) {
        close(c->fd);
        c->fd = -1;
    }
}
static const char D[] = "data:";
static inline void bodyb(C* c, const char* p, long long k) {
    if (!c->tf && k > 0) c->tf = now();
    long long t = 0;
    for (long long j = 0; j < k; j++) {
        char x = p[j];
        if (x == D[c->dm]) {
            if (++c->dm == 5) {
                c->dm = 0;
                if (!t) t = now();
                if (t >= tw && t < te) {
                    ev_++;
                    if (c->clast && ng < cap) G[ng++] = t - c->clast;
                }
                c->clast = t;
            }
        } else
            c->dm = x == 'd';
    }
    by += k;
}
static int feed(int i, char* b, int r) {
    C* c = &cs[i];
    int p = 0;
    while (p < r) {
        if (c->st == 0) {
            int s = c->hl;
            int k = r - p;
            if (k > 16000 - c->hl) k = 16000 - c->hl;
            memcpy(c->h + c->hl, b + p, k);
            c->hl += k;
            c->h[c->hl] = 0;
            char* e = strstr(c->h + (s > 3 ? s - 3 : 0), "\r\n\r\n");
            if (!e) {
                p += k;
                if (c->hl >= 16000) return -1;
                continue;
            }
            int hdr = e - c->h + 4;
            p += hdr - s;
            c->status = atoi(c->h + 9);
            for (char* q = strchr(c->h, '\n'); q && q < e; q = strchr(q, '\n')) {
                q++;
                if (!strncasecmp(q, "content-length:", 15)) {
                    c->clen = atoll(q + 15);
                    c->clen_known = 1;
                } else if (!strncasecmp(q, "transfer-encoding: chunked", 26))
                    c->chunked = 1;
                else if (!strncasecmp(q, "connection: close", 17))
                    c->closeafter = 1;
            }
            c->st = 1;
            if (c->chunked) {
            } else if (c->clen_known && c->clen == 0) {
                fin(i);
                return p;
            }
            continue;
        }
        if (c->chunked) {  // cst 0 size line,1 data,2 crlf after data,3 trailer
            if (c->cst == 0) {
                char x = b[p++];
                if (x == '\n') {
                    c->cst = c->cn ? 1 : 3;
                    c->dm = c->dm;
                    c->hl = 0;
                } else if (x >= '0' && x <= '9')
                    c->cn = c->cn * 16 + x - '0';
                else if ((x | 32) >= 'a' && (x | 32) <= 'f')
                    c->cn = c->cn * 16 + (x | 32) - 'a' + 10;
                continue;
            }
            if (c->cst == 1) {
                long long k = r - p < c->cn ? r - p : c->cn;
                if (c->status != 200 && firstbad) {
                    int m = k < 15000 ? k : 15000;
                    memcpy(c->h, b + p, m);
                    c->hl = m;
                }
                bodyb(c, b + p, k);
                p += k;
                c->cn -= k;
                if (!c->cn) c->cst = 2;
                continue;
            }
            if (c->cst == 2) {
                if (b[p++] == '\n') c->cst = 0;
                continue;
            }
            if (c->cst == 3) {
                char x = b[p++];
                if (x == '\n') {
                    fin(i);
                    return p;
                }
                continue;
            }
        } else {
            long long k = r - p;
            if (c->clen_known && k > c->clen) k = c->clen;
            if (c->status != 200 && firstbad) {
                int m = k < 15000 ? k : 15000;
                memcpy(c->h, b + p, m);
                c->hl = m;
            }
            bodyb(c, b + p, k);
            p += k;
            if (c->clen_known) {
                c->clen -= k;
                if (!c->clen) {
                    fin(i);
                    return p;
                }
            }
        }
    }
    return p;
}
static void pct(const char* nm, unsigned* a, size_t m) {
    if (!m) {
        printf("\"%s\":null,", nm);
        return;
    }
    qsort(a, m, 4, cmp);
    double s = 0;
    for (size_t i = 0; i < m; i++) s += a[i];
    printf("\"%s\":{\"mean\":%.1f,\"p50\":%u,\"p90\":%u,\"p95\":%u,\"p99\":%u,\"p999\":%u,\"max\":%u},", nm, s / m,
           a[(size_t)(m * .5)], a[(size_t)(m * .9)], a[(size_t)(m * .95)], a[(size_t)(m * .99)], a[(size_t)(m * .999)],
           a[m - 1]);
}
int main(int ac, char** av) {
    signal(SIGPIPE, SIG_IGN);
    double d = 5, w = 1;
    const char *u = "/v1/chat/completions", *body = "{}";
    char hs[8192] = "";
    int o;
    char* fb = 0;
    while ((o = getopt(ac, av, "p:u:c:d:w:H:b:f:R:")) > 0) switch (o) {
            case 'p':
                port = atoi(optarg);
                break;
            case 'u':
                u = optarg;
                break;
            case 'c':
                nc = atoi(optarg);
                break;
            case 'd':
                d = atof(optarg);
                break;
            case 'w':
                w = atof(optarg);
                break;
            case 'R':
                rate = atof(optarg);
                break;
            case 'H':
                strcat(hs, optarg);
                strcat(hs, "\r\n");
                break;
            case 'b':
                body = optarg;
                break;
            case 'f': {
                FILE* f = fopen(optarg, "r");
                fb = calloc(1, 1 << 19);
                if (!f || !fread(fb, 1, (1 << 19) - 1, f)) return 1;
                body = fb;
            } break;
        }
    rl = sprintf(req,
                 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nAccept: "
                 "*/*\r\n%sContent-Length: %zu\r\n\r\n%s",
                 u, port, hs, strlen(body), body);
    L = malloc(cap * 4);
    F = malloc(cap * 4);
    G = malloc(cap * 4);
    cs = calloc(nc, sizeof(C));
    ep = epoll_create1(0);
    for (int i = 0; i < nc; i++) cs[i].fd = -1;
    long long t = now();
    tw = t + (long long)(w * 1e6);
    te = tw + (long long)(d * 1e6);
    long long hard = te + 3000000;
    double nextt = t;
    if (rate <= 0)
        for (int i = 0; i < nc; i++) start(i, now());
    static char b[262144];
    static struct epoll_event ev[1024];
    int freei = 0;
    for (;;) {
        t = now();
        if (t >= te && rate <= 0) break;
        if (t >= te) {
            int bz = 0;
            for (int i = 0; i < nc; i++) bz += cs[i].busy;
            if (!bz || t >= hard) break;
        }
        int to = 100;
        double dtw = 0;
        if (rate > 0 && t < te) {
            while (nextt <= t) {
                int f = -1;
                for (int k = 0; k < nc; k++) {
                    int i = (freei + k) % nc;
                    if (!cs[i].busy) {
                        f = i;
                        break;
                    }
                }
                if (f < 0) break;
                freei = f + 1;
                start(f, (long long)nextt);
                sched++;
                nextt += 1e6 / rate;
            }
            dtw = nextt - now();
            if (dtw <= 0) dtw = 1000;
            to = -2;
        }
        int k;
        if (to == -2) {
            struct timespec ts = {(time_t)(dtw / 1e6), (long)((dtw - 1e6 * (long)(dtw / 1e6)) * 1000)};
            k = epoll_pwait2(ep, ev, 1024, &ts, 0);
        } else
            k = epoll_wait(ep, ev, 1024, to);
        for (int j = 0; j < k; j++) {
            int i = ev[j].data.u32;
            C* c = &cs[i];
            if (c->fd < 0) continue;
            int r = recv(c->fd, b, sizeof b, 0);
            if (r <= 0) {
                close(c->fd);
                c->fd = -1;
                if (c->busy) {
                    if (c->st == 1 && !c->chunked && !c->clen_known)
                        fin(i);
                    else
                        err++;
                    c->busy = 0;
                }
                if (rate <= 0) start(i, now());
                continue;
            }
            if (!c->busy) continue;
            int x = feed(i, b, r);
            if (x < 0) {
                close(c->fd);
                c->fd = -1;
                err++;
                c->busy = 0;
            }
            if (!c->busy && rate <= 0 && now() < te) start(i, now());
        }
    }
    printf(
        "{\"conns\":%d,\"rate\":%.0f,\"secs\":%.2f,\"rps\":%.1f,\"ok\":%lld,\"bad\":%lld,\"err\":%lld,\"events_s\":%."
        "0f,\"mb_s\":%.1f,",
        nc, rate, d, ok / d, ok, bad, err, ev_ / d, by / 1e6 / (d + w));
    pct("lat", L, n);
    pct("ttfb", F, n);
    pct("gap", G, ng);
    printf("\"end\":0}\n");
    return 0;
}
