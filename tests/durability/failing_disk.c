/* Preloaded under a server: a disk that lies or fails, for files whose path contains a word.
 *
 * FORGET_SYNC=WORD     their syncs do nothing and say they did: shows that the power-cut test sees a missing sync.
 * DISK_FAULTS=FILE     while FILE exists and says "sync WORD ERRNO" or "write WORD ERRNO", these fail so.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_of(int fd, const char *word) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!word || length < 0) return 0;
    path[length] = 0;
    return strstr(path, word) != NULL;
}

/* Whether this operation on this file fails now; sets errno. */
static int fails(const char *operation, int fd) {
    const char *control = getenv("DISK_FAULTS");
    char text[256], wanted[16], word[128];
    int code, file = control ? open(control, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    if (length <= 0) return 0;
    text[length] = 0;
    if (sscanf(text, "%15s %127s %d", wanted, word, &code) != 3) return 0;
    if (strcmp(wanted, operation) || !is_of(fd, word)) return 0;
    errno = code;
    return 1;
}

static int synced(int fd, const char *name) {
    if (is_of(fd, getenv("FORGET_SYNC"))) return 0;
    return fails("sync", fd) ? -1 : ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }

int fsync(int fd) { return synced(fd, "fsync"); }

ssize_t write(int fd, const void *bytes, size_t count) {
    if (fails("write", fd)) return -1;
    return ((ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, bytes, count);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    if (fails("write", fd)) return -1;
    return ((ssize_t (*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite"))(fd, bytes, count, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (fails("write", fd)) return -1;
    return ((ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64"))(fd, bytes, count, at);
}
