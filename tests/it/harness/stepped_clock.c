/* Preloaded into a redis-server: its wall clock differs from the system's by the seconds in the file $CLOCK_STEP.
   (libfaketime does not get along with the server's allocator.) */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    (void)zone;
    struct timespec system;
    if (syscall(SYS_clock_gettime, CLOCK_REALTIME, &system))
        return -1;
    char text[32] = "";
    const char *path = getenv("CLOCK_STEP");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file >= 0) {
        ssize_t length = read(file, text, sizeof text - 1);
        text[length > 0 ? length : 0] = 0;
        close(file);
    }
    now->tv_sec = system.tv_sec + atol(text);
    now->tv_usec = system.tv_nsec / 1000;
    return 0;
}
