/* Preloaded under a server: syncs of files whose path contains FORGET_SYNC do nothing and say they did.
   Shows that the power-cut test sees a sync that is missing. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int forgotten(int fd) {
    const char *part = getenv("FORGET_SYNC");
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (!part || length < 0) return 0;
    path[length] = 0;
    return strstr(path, part) != NULL;
}

int fdatasync(int fd) {
    return forgotten(fd) ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int fsync(int fd) {
    return forgotten(fd) ? 0 : ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}
