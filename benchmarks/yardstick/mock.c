// mock.c - very small, very fast mock OpenAI/Anthropic upstream. One thread, epoll, no allocation per request.
// usage: mock PORT [N_CHUNKS=64] [GAP_US=0] [DELAY_US=0]
//   GAP_US=0   : the whole SSE body is written at once (burst)
//   GAP_US>0   : one SSE chunk every GAP_US per stream (paced)
//   DELAY_US>0 : time before the first byte of any answer
// POST any path: body with "stream":true -> SSE, else JSON. Paths ending in /messages answer in the Anthropic
// dialect; paths ending in /responses in the OpenAI Responses dialect (non-stream only). GET -> a model list.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
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
#define MAXC 8192
#define RB 262144
typedef struct {
    int fd, rlen, rcap, active, anth, next, gen;
    char* r;
    long long due;
    const char* pend;
    size_t plen, poff;
} C;
static C cs[MAXC];
static int ep, nch = 64;
static long long gap = 0, delay = 0;
static int act[MAXC], nact = 0;
static long long nreq = 0, nstream = 0;
static char *J, *AJ, *RJ, *ML;
static size_t JL, AJL, RJL, MLL;
static char* S[2];
static size_t SL[2];
static size_t off[2][4096];
static int noff[2];
static long long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}
static char* mk(const char* body, const char* ct, size_t* l) {
    char* o = malloc(strlen(body) + 256);
    *l = sprintf(o, "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s", ct, strlen(body), body);
    return o;
}
static void addc(int k, const char* d) {
    char h[32];
    size_t n = strlen(d);
    int hl = sprintf(h, "%zx\r\n", n);
    memcpy(S[k] + SL[k], h, hl);
    SL[k] += hl;
    memcpy(S[k] + SL[k], d, n);
    SL[k] += n;
    memcpy(S[k] + SL[k], "\r\n", 2);
    SL[k] += 2;
}
static void build(void) {
    const char* W[8] = {"The", " quick", " brown", " fox", " jumps", " over", " the", " dog"};
    char b[4096], t[2048] = {0};
    for (int i = 0; i < nch && strlen(t) < 2000; i++) strcat(t, W[i % 8]);
    sprintf(b,
            "{\"id\":\"chatcmpl-mock0000000000000000000001\",\"object\":\"chat.completion\",\"created\":1728511727,"
            "\"model\":\"mock\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
            "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":%d,"
            "\"total_tokens\":%d},\"system_fingerprint\":\"fp_mock\"}",
            t, nch, nch + 24);
    J = mk(b, "application/json", &JL);
    sprintf(b,
            "{\"id\":\"msg_mock01\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"mock\",\"content\":[{"
            "\"type\":\"text\",\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{"
            "\"input_tokens\":24,\"output_tokens\":%d}}",
            t, nch);
    AJ = mk(b, "application/json", &AJL);
    sprintf(b,
            "{\"id\":\"resp_mock01\",\"object\":\"response\",\"created_at\":1728511727,\"status\":\"completed\","
            "\"model\":\"mock\",\"output\":[{\"type\":\"message\",\"id\":\"msg_1\",\"status\":\"completed\",\"role\":"
            "\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"%s\",\"annotations\":[]}]}],\"usage\":{"
            "\"input_tokens\":24,\"output_tokens\":%d,\"total_tokens\":%d}}",
            t, nch, nch + 24);
    RJ = mk(b, "application/json", &RJL);
    ML =
        mk("{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1728511727,\"owned_by\":"
           "\"mock\"}]}",
           "application/json", &MLL);
    for (int k = 0; k < 2; k++) {
        S[k] = malloc(512 * (nch + 16) + 4096);
        SL[k] = sprintf(S[k],
                        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: "
                        "no-cache\r\nTransfer-Encoding: chunked\r\n\r\n");
    }
    const char* H =
        "data: "
        "{\"id\":\"chatcmpl-mock0000000000000000000001\",\"object\":\"chat.completion.chunk\",\"created\":1728511727,"
        "\"model\":\"mock\",\"system_fingerprint\":\"fp_mock\",\"choices\":[";
    for (int i = 0; i < nch; i++) {
        sprintf(b, "%s{\"index\":0,\"delta\":{%s\"content\":\"%s\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n", H,
                i ? "" : "\"role\":\"assistant\",", W[i % 8]);
        addc(0, b);
        off[0][noff[0]++] = SL[0];
    }
    sprintf(b, "%s{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n", H);
    addc(0, b);
    sprintf(b, "%s],\"usage\":{\"prompt_tokens\":24,\"completion_tokens\":%d,\"total_tokens\":%d}}\n\n", H, nch,
            nch + 24);
    addc(0, b);
    addc(0, "data: [DONE]\n\n");
    memcpy(S[0] + SL[0], "0\r\n\r\n", 5);
    SL[0] += 5;
    off[0][noff[0]++] = SL[0];
    addc(1,
         "event: message_start\ndata: "
         "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_mock01\",\"type\":\"message\",\"role\":\"assistant\","
         "\"model\":\"mock\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":24,"
         "\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: "
         "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n");
    for (int i = 0; i < nch; i++) {
        sprintf(
            b,
            "event: content_block_delta\ndata: "
            "{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"%s\"}}\n\n",
            W[i % 8]);
        addc(1, b);
        off[1][noff[1]++] = SL[1];
    }
    sprintf(
        b,
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: "
        "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{"
        "\"output_tokens\":%d}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        nch);
    addc(1, b);
    memcpy(S[1] + SL[1], "0\r\n\r\n", 5);
    SL[1] += 5;
    off[1][noff[1]++] = SL[1];
}
static void drop(int i) {
    C* c = &cs[i];
    if (c->fd < 0) return;
    close(c->fd);
    c->fd = -1;
    c->rlen = 0;
    c->plen = c->poff = 0;
    if (c->active) {
        for (int k = 0; k < nact; k++)
            if (act[k] == i) {
                act[k] = act[--nact];
                break;
            }
        c->active = 0;
    }
}
static void setev(int i, int w) {
    struct epoll_event e = {.events = EPOLLIN | (w ? EPOLLOUT : 0), .data.u32 = i};
    epoll_ctl(ep, EPOLL_CTL_MOD, cs[i].fd, &e);
}
static void out(int i, const char* p, size_t n) {
    C* c = &cs[i];
    if (c->plen) {
        c->plen += n;
        return;
    }  // contiguous by construction
    ssize_t w = send(c->fd, p, n, MSG_NOSIGNAL);
    if (w < 0) {
        if (errno != EAGAIN) {
            drop(i);
            return;
        }
        w = 0;
    }
    if ((size_t)w < n) {
        c->pend = p;
        c->plen = n;
        c->poff = w;
        setev(i, 1);
    }
}
static void activate(int i, int kind, long long t) {
    C* c = &cs[i];
    c->active = kind;
    c->next = 0;
    c->due = t;
    act[nact++] = i;
}
static void reqdone(int i, const char* path, int plen, int get, int stream) {
    C* c = &cs[i];
    nreq++;
    int anth = plen >= 9 && !memcmp(path + plen - 9, "/messages", 9),
        rsp = plen >= 10 && !memcmp(path + plen - 10, "/responses", 10);
    c->anth = anth;
    if (get) {
        out(i, ML, MLL);
        return;
    }
    if (!stream) {
        c->gen = rsp ? 2 : anth;
        if (delay) {
            activate(i, 1, now() + delay);
            return;
        }
        if (rsp)
            out(i, RJ, RJL);
        else if (anth)
            out(i, AJ, AJL);
        else
            out(i, J, JL);
        return;
    }
    nstream++;
    if (gap || delay) {
        activate(i, 2, now() + delay);
        return;
    }
    out(i, S[anth], SL[anth]);
}
static void parse(int i) {
    C* c = &cs[i];
    for (;;) {
        if (c->fd < 0 || c->rlen == 0 || c->active) return;
        c->r[c->rlen] = 0;
        char* e = memmem(c->r, c->rlen, "\r\n\r\n", 4);
        if (!e) return;
        int hl = e - c->r + 4;
        long cl = 0;
        int chunked = 0;
        for (char* p = strchr(c->r, '\n'); p && p < e; p = strchr(p, '\n')) {
            p++;
            if (!strncasecmp(p, "content-length:", 15))
                cl = atol(p + 15);
            else if (!strncasecmp(p, "transfer-encoding:", 18))
                chunked = 1;
            else if (!strncasecmp(p, "expect:", 7)) {
            }
        }
        int total;
        char* body = c->r + hl;
        int bl;
        if (chunked) {
            char* z = memmem(body, c->rlen - hl, "0\r\n\r\n", 5);
            if (!z) return;
            total = z - c->r + 5;
            bl = z - body;
        } else {
            if (c->rlen < hl + cl) return;
            total = hl + cl;
            bl = cl;
        }
        char* sp = strchr(c->r, ' ');
        char* p = sp ? sp + 1 : c->r;
        int pl = strcspn(p, " ?\r");
        int get = c->r[0] == 'G';
        int stream = 0;
        if (bl > 0) {
            char* s = memmem(body, bl, "\"stream\"", 8);
            if (s) {
                s += 8;
                while (*s == ' ' || *s == ':') s++;
                stream = *s == 't';
            }
        }
        char path[256];
        if (pl > 255) pl = 255;
        memcpy(path, p, pl);
        memmove(c->r, c->r + total, c->rlen - total);
        c->rlen -= total;
        reqdone(i, path, pl, get, stream);
    }
}
int main(int ac, char** av) {
    signal(SIGPIPE, SIG_IGN);
    int port = ac > 1 ? atoi(av[1]) : 9000;
    if (ac > 2) nch = atoi(av[2]);
    if (ac > 3) gap = atoll(av[3]);
    if (ac > 4) delay = atoll(av[4]);
    if (nch > 4000) nch = 4000;
    build();
    int ls = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(ls, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(ls, (void*)&a, sizeof a) || listen(ls, 4096)) {
        perror("bind");
        return 1;
    }
    ep = epoll_create1(0);
    for (int i = 0; i < MAXC; i++) cs[i].fd = -1;
    struct epoll_event le = {.events = EPOLLIN, .data.u32 = MAXC};
    epoll_ctl(ep, EPOLL_CTL_ADD, ls, &le);
    static struct epoll_event ev[1024];
    for (;;) {
        int to = -1;
        if (nact) {
            long long n = now(), m = 1LL << 60;
            for (int k = 0; k < nact; k++)
                if (cs[act[k]].due < m) m = cs[act[k]].due;
            to = m <= n ? 0 : (int)((m - n + 999) / 1000);
        }
        int n = epoll_wait(ep, ev, 1024, to);
        for (int k = 0; k < n; k++) {
            int i = ev[k].data.u32;
            if (i == MAXC) {
                for (;;) {
                    int f = accept4(ls, 0, 0, SOCK_NONBLOCK);
                    if (f < 0) break;
                    setsockopt(f, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    int s = 0;
                    while (s < MAXC && cs[s].fd >= 0) s++;
                    if (s == MAXC) {
                        close(f);
                        continue;
                    }
                    if (!cs[s].r) {
                        cs[s].r = malloc(RB + 1);
                    }
                    cs[s].fd = f;
                    cs[s].rlen = 0;
                    cs[s].active = 0;
                    cs[s].plen = cs[s].poff = 0;
                    struct epoll_event e = {.events = EPOLLIN, .data.u32 = s};
                    epoll_ctl(ep, EPOLL_CTL_ADD, f, &e);
                }
                continue;
            }
            C* c = &cs[i];
            if (c->fd < 0) continue;
            if (ev[k].events & EPOLLOUT && c->plen) {
                ssize_t w = send(c->fd, c->pend + c->poff, c->plen - c->poff, MSG_NOSIGNAL);
                if (w < 0 && errno != EAGAIN) {
                    drop(i);
                    continue;
                }
                if (w > 0) c->poff += w;
                if (c->poff == c->plen) {
                    c->plen = c->poff = 0;
                    setev(i, 0);
                }
            }
            if (ev[k].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                int r = recv(c->fd, c->r + c->rlen, RB - c->rlen, 0);
                if (r <= 0) {
                    if (r < 0 && errno == EAGAIN) continue;
                    drop(i);
                    continue;
                }
                c->rlen += r;
                parse(i);
            }
        }
        if (nact) {
            long long t = now();
            for (int k = 0; k < nact;) {
                int i = act[k];
                C* c = &cs[i];
                if (c->due > t) {
                    k++;
                    continue;
                }
                if (c->active == 1) {
                    c->active = 0;
                    act[k] = act[--nact];
                    if (c->gen == 2)
                        out(i, RJ, RJL);
                    else if (c->gen == 1)
                        out(i, AJ, AJL);
                    else
                        out(i, J, JL);
                    parse(i);
                    continue;
                }
                int q = c->anth;
                int fin = 0;
                size_t s, e;
                if (gap == 0) {
                    s = 0;
                    e = SL[q];
                    fin = 1;
                } else {
                    s = c->next ? off[q][c->next - 1] : 0;
                    e = off[q][c->next];
                    c->next++;
                    c->due += gap;
                    fin = c->next == noff[q];
                }
                if (fin) {
                    c->active = 0;
                    act[k] = act[--nact];
                }
                out(i, S[q] + s, e - s);
                if (fin) {
                    parse(i);
                    continue;
                }
                if (cs[i].fd >= 0) k++;
            }
        }
    }
}
