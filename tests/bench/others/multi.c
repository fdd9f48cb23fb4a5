/* libcurl's multi interface on epoll: multi URL REQUESTS AT_ONCE CA BULK
   One easy handle for each request in flight, used again and again. */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/time.h>

static int poll_fd;
static long timeout_ms = -1;
static unsigned long long bytes, done, failed;
static curl_off_t *took_us;

static size_t on_body(char *data, size_t size, size_t count, void *unused) {
    bytes += size * count;
    return size * count;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *unused, void *known) {
    struct epoll_event event = {.data.fd = fd};
    if (what & CURL_POLL_IN) event.events |= EPOLLIN;
    if (what & CURL_POLL_OUT) event.events |= EPOLLOUT;
    if (what == CURL_POLL_REMOVE)
        epoll_ctl(poll_fd, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(poll_fd, EPOLL_CTL_MOD, fd, &event) != 0)
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event);
    return 0;
}

static int on_timer(CURLM *multi, long milliseconds, void *unused) {
    timeout_ms = milliseconds;
    return 0;
}

static int in_order(const void *one, const void *other) {
    curl_off_t a = *(const curl_off_t *)one, b = *(const curl_off_t *)other;
    return (a > b) - (a < b);
}

static curl_off_t quantile_us(double part) {
    return done ? took_us[(unsigned long long)(done * part)] : 0;
}

static long long microseconds(struct timeval time) {
    return time.tv_sec * 1000000LL + time.tv_usec;
}

static long long now(void) {
    struct timeval time;
    gettimeofday(&time, NULL);
    return microseconds(time);
}

int main(int argc, char **argv) {
    if (argc < 6) return 2;
    unsigned long long requests = strtoull(argv[2], NULL, 10), begun = 0;
    long at_once = atol(argv[3]);
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init();
    took_us = calloc(requests, sizeof *took_us);
    if (!took_us) return 2;
    poll_fd = epoll_create1(0);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, at_once);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    long long start = now();
    for (; begun < requests && begun < (unsigned long long)at_once; begun++) {
        CURL *easy = curl_easy_init();
        curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        /* Else it sets signal handlers around each call. */
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        if (argv[4][0]) curl_easy_setopt(easy, CURLOPT_CAINFO, argv[4]);
        if (atoi(argv[5])) curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 512L * 1024);
        if (argc > 6) curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, argv[6]);
        curl_multi_add_handle(multi, easy);
    }
    struct epoll_event events[1024];
    int running = 1;
    while (done + failed < requests) {
        int count = epoll_wait(poll_fd, events, 1024, timeout_ms);
        if (count <= 0) {
            /* Over, unless the library sets another. */
            timeout_ms = -1;
            curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        for (int at = 0; at < count; at++) {
            int what = 0;
            if (events[at].events & (EPOLLIN | EPOLLHUP)) what |= CURL_CSELECT_IN;
            if (events[at].events & EPOLLOUT) what |= CURL_CSELECT_OUT;
            if (events[at].events & EPOLLERR) what |= CURL_CSELECT_ERR;
            curl_multi_socket_action(multi, events[at].data.fd, what, &running);
        }
        CURLMsg *message;
        int left;
        while ((message = curl_multi_info_read(multi, &left))) {
            CURL *easy = message->easy_handle;
            if (message->data.result == CURLE_OK)
                curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &took_us[done++]);
            else
                failed++;
            curl_multi_remove_handle(multi, easy);
            if (begun < requests) {
                begun++;
                curl_multi_add_handle(multi, easy);
            }
        }
    }
    getrusage(RUSAGE_SELF, &after);
    long long wall_us = now() - start;
    qsort(took_us, done, sizeof *took_us, in_order);
    printf("{\"done\": %llu, \"failed\": %llu, \"bytes\": %llu, \"user_us\": %lld, \"sys_us\": %lld, "
           "\"wall_us\": %lld, \"switches\": %ld, \"rss_kib\": %ld, "
           "\"p50_us\": %lld, \"p99_us\": %lld, \"p999_us\": %lld}\n",
           done, failed, bytes, microseconds(after.ru_utime) - microseconds(before.ru_utime),
           microseconds(after.ru_stime) - microseconds(before.ru_stime), wall_us,
           after.ru_nvcsw + after.ru_nivcsw - before.ru_nvcsw - before.ru_nivcsw,
           after.ru_maxrss, (long long)quantile_us(0.5), (long long)quantile_us(0.99),
           (long long)quantile_us(0.999));
    return 0;
}
