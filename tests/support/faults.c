/* Makes the operations on files below one folder fail, or kills the process at them, when a test says so.
 *
 * Loaded with LD_PRELOAD. FAULTS_FOLDER names the folder, FAULTS_CONTROL a file that the test and all processes map:
 * struct control. An operation is a call that changes a file or a folder, or makes one durable. Paths are compared as
 * they are given, so the folder has to be named in full.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define KILL (-1)
#define HANG (-2)

/* `left`: operations until the fault, which is the one that finds 1. `kind`: an errno, KILL, HANG (what makes durable
 * does not end before this is another), or 0 for none. `sticky`:
 * every later operation fails too. `seen`, `fired`: operations that came, and that failed. `what`: the first that did. */
struct control {
    _Atomic int64_t left;
    _Atomic int32_t kind;
    _Atomic int32_t sticky;
    _Atomic int64_t seen;
    _Atomic int64_t fired;
    char what[256];
};

static struct control *control;
static char folder[4096];
static size_t length;

__attribute__((constructor)) static void begin(void)
{
    const char *named = getenv("FAULTS_FOLDER"), *shared = getenv("FAULTS_CONTROL");
    int fd = named && shared ? open(shared, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    length = (size_t)snprintf(folder, sizeof folder, "%s", named);
    control = map == MAP_FAILED ? NULL : map;
}

/* Whether this operation is to fail; sets errno. One that needs no room does not count where the disk is full. */
static int strikes(const char *call, const char *path, int needs_room)
{
    if (!control || strncmp(path, folder, length) != 0 || (path[length] != '/' && path[length] != '\0'))
        return 0;
    int kind = control->kind;
    if (kind == ENOSPC && !needs_room)
        return 0;
    if (kind == HANG) {
        if (strcmp(call, "fsync") != 0 && strcmp(call, "fdatasync") != 0)
            return 0;
        for (control->fired++; control->kind == HANG;)
            usleep(10000);
        return 0;
    }
    control->seen++;
    if (!kind)
        return 0;
    int64_t left = control->left--;
    if (left > 1 || (left < 1 && !control->sticky))
        return 0;
    if (control->fired++ == 0)
        snprintf(control->what, sizeof control->what, "%s %s", call, path + length);
    errno = kind;
    return 1;
}

static int strikes_fd(const char *call, int fd)
{
    char link[64], path[4096];
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t count = control ? readlink(link, path, sizeof path - 1) : -1;
    errno = before;
    if (count < 0)
        return 0;
    path[count] = '\0';
    return strikes(call, path, 1);
}

static int failed(void)
{
    if (errno == KILL)
        kill(getpid(), SIGKILL);
    return -1;
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static int changes(const char *path, int flags)
{
    if ((flags & O_ACCMODE) == O_RDONLY && !(flags & O_CREAT))
        return 0;
    int before = errno;
    int creates = (flags & O_CREAT) && access(path, F_OK) != 0;
    errno = before;
    return strikes(creates ? "create" : "open", path, creates);
}

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...)                                        \
    {                                                                                 \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;     \
        va_end(more);                                                                 \
        if (changes(path, flags))                                                     \
            return failed();                                                          \
        return REAL(int, name, const char *, int, mode_t)(path, flags, mode);         \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                                  \
    int name(int at, const char *path, int flags, ...)                                \
    {                                                                                 \
        va_list more;                                                                 \
        va_start(more, flags);                                                        \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0;     \
        va_end(more);                                                                 \
        if (changes(path, flags))                                                     \
            return failed();                                                          \
        return REAL(int, name, int, const char *, int, mode_t)(at, path, flags, mode); \
    }
OPENAT(openat)
OPENAT(openat64)

/* A process that is killed in the middle of a write has written a half. */
ssize_t write(int fd, const void *bytes, size_t count)
{
    ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t, write, int, const void *, size_t);
    if (!strikes_fd("write", fd))
        return real(fd, bytes, count);
    if (errno == KILL && real(fd, bytes, count / 2) >= 0)
        errno = KILL;
    return failed();
}

#define PWRITE(name, offset)                                                          \
    ssize_t name(int fd, const void *bytes, size_t count, offset at)                  \
    {                                                                                 \
        ssize_t (*real)(int, const void *, size_t, offset) =                          \
            REAL(ssize_t, name, int, const void *, size_t, offset);                   \
        if (!strikes_fd("pwrite", fd))                                                \
            return real(fd, bytes, count, at);                                        \
        if (errno == KILL && real(fd, bytes, count / 2, at) >= 0)                     \
            errno = KILL;                                                             \
        return failed();                                                              \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return strikes_fd("writev", fd) ? failed() : REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
}

#define ON_FD(name) \
    int name(int fd) { return strikes_fd(#name, fd) ? failed() : REAL(int, name, int)(fd); }
ON_FD(fsync)
ON_FD(fdatasync)

#define TRUNCATE(name, offset) \
    int name(int fd, offset size) { return strikes_fd("ftruncate", fd) ? failed() : REAL(int, name, int, offset)(fd, size); }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ON_PATHS(name)                                                                \
    int name(const char *from, const char *to)                                        \
    {                                                                                 \
        return strikes(#name, to, 1) ? failed() : REAL(int, name, const char *, const char *)(from, to); \
    }
ON_PATHS(rename)
ON_PATHS(link)

#define REMOVE(name) \
    int name(const char *path) { return strikes(#name, path, 0) ? failed() : REAL(int, name, const char *)(path); }
REMOVE(unlink)
REMOVE(rmdir)

int mkdir(const char *path, mode_t mode)
{
    if (access(path, F_OK) == 0)
        return REAL(int, mkdir, const char *, mode_t)(path, mode);
    return strikes("mkdir", path, 1) ? failed() : REAL(int, mkdir, const char *, mode_t)(path, mode);
}
