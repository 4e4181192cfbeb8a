/* Moves the wall clock of the process that it is preloaded under: by MOVED_CLOCK_S seconds from its start, or, as it
 * runs, by the seconds that the file MOVED_CLOCK_FILE holds (8 bytes). What counts time from the process's start
 * (CLOCK_MONOTONIC) stays: timeouts take as long as they say. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t from_start;
static volatile int64_t *moved = &from_start;

/* Runs before the process has a second thread. */
__attribute__((constructor)) static void set_out(void)
{
    const char *seconds = getenv("MOVED_CLOCK_S"), *path = getenv("MOVED_CLOCK_FILE");

    if (seconds)
        from_start = atol(seconds);
    if (!path)
        return;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        abort();
    void *shared = mmap(NULL, sizeof(*moved), PROT_READ, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED)
        abort();
    moved = shared;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);

    if (!real)
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int answer = real(clock, now);
    if (answer == 0 && clock == CLOCK_REALTIME)
        now->tv_sec += *moved;
    return answer;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *also)
{
    struct timespec exact;

    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return (time_t)-1;
    if (also)
        *also = exact.tv_sec;
    return exact.tv_sec;
}
