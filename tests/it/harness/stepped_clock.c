/* Preloaded into a process: its wall clock differs from the system's by the seconds in the file $CLOCK_STEP. If that has two
   more numbers, it also runs faster, by so many millionths, since that second of the system's clock.
   (libfaketime does not get along with redis-server's allocator.) */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static void change(struct timespec *now)
{
    char text[64] = "", *rest;
    const char *path = getenv("CLOCK_STEP");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file >= 0) {
        ssize_t length = read(file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        close(file);
    }
    long step = strtol(text, &rest, 10), millionths = strtol(rest, &rest, 10), since = strtol(rest, &rest, 10);
    /* Less than an hour, or it would overflow. */
    long long gained = millionths ? ((now->tv_sec - since) * 1000000LL + now->tv_nsec / 1000) * millionths / 1000 : 0;
    long long nanoseconds = now->tv_nsec + gained;
    now->tv_sec += step + nanoseconds / 1000000000;
    now->tv_nsec = nanoseconds % 1000000000;
    if (now->tv_nsec < 0) {
        now->tv_nsec += 1000000000;
        now->tv_sec--;
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (syscall(SYS_clock_gettime, clock, now))
        return -1;
    if (clock == CLOCK_REALTIME)
        change(now);
    return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec time;
    if (clock_gettime(CLOCK_REALTIME, &time))
        return -1;
    now->tv_sec = time.tv_sec;
    now->tv_usec = time.tv_nsec / 1000;
    return 0;
}
