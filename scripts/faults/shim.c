/* Counts a process's operations on the files below one folder, and makes one of these events fail or
 * kill the process. It is loaded with LD_PRELOAD, so that Python and TensorFlow call its functions.
 *
 *   cc -O1 -shared -fPIC -o shim.so shim.c -ldl
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What happens at the event: the process is killed before it, within it (after half of a write), or
 * after it; this event fails, or all from this one on; a signal comes before it, or before all from
 * this one on. */
enum { NOTHING, KILL_BEFORE, KILL_WITHIN, KILL_AFTER, FAIL_ONCE, FAIL_FROM, SIGNAL, SIGNALS };

#define DESCRIPTORS 65536
static char root[PATH_MAX];
static size_t root_length;
static long event_number, num_events;
static int action, detail;  /* detail: an errno, or a signal's number. */
static int log_descriptor = -1;
static char is_watched[DESCRIPTORS];

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

/* Called from Python in the process that is to be disturbed. Each event is logged as a line. */
void faults_arm(const char *folder, long number, int what, int error_or_signal, int log) {
  root_length = strlen(folder);
  strncpy(root, folder, sizeof root - 1);
  event_number = number;
  num_events = 0;
  action = what;
  detail = error_or_signal;
  log_descriptor = log;
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* Returns whether a path is below the folder; paths relative to the working directory are. */
static int is_below(int folder, const char *path) {
  char link[64], place[PATH_MAX];
  if (!root_length || !path) return 0;
  if (path[0] == '/') return !strncmp(path, root, root_length) && path[root_length] == '/';
  if (folder == AT_FDCWD) return 1;
  snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
  ssize_t length = readlink(link, place, sizeof place - 1);
  if (length < 0) return 0;
  place[length] = 0;
  return !strncmp(place, root, root_length);
}

static int watched(int descriptor) {
  return root_length && descriptor >= 0 && descriptor < DESCRIPTORS && is_watched[descriptor];
}

static void watch(int descriptor, int is_it) {
  if (descriptor >= 0 && descriptor < DESCRIPTORS) is_watched[descriptor] = is_it;
}

/* Counts an event. Returns -1, with errno, if it must fail; 1 if it is the chosen one; else 0. */
static int begin(const char *what, const char *path) {
  long number = __sync_add_and_fetch(&num_events, 1);
  int is_it = number == event_number;
  if (log_descriptor >= 0) {
    char line[PATH_MAX + 32];
    int length = snprintf(line, sizeof line, "%s\t%s\n", what, path);
    if (length > 0 && REAL(write)(log_descriptor, line, length) < 0) log_descriptor = -1;
  }
  if (is_it && action == KILL_BEFORE) die();
  int is_from = event_number && number >= event_number;
  if ((is_it && action == SIGNAL) || (is_from && action == SIGNALS)) kill(getpid(), detail);
  if ((is_it && action == FAIL_ONCE) || (is_from && action == FAIL_FROM)) {
    errno = detail;
    return -1;
  }
  return is_it;
}

static void end(int is_it) {
  if (is_it == 1 && (action == KILL_AFTER || action == KILL_WITHIN)) die();
}

#define FORWARD(kind, path, failed, call) \
  int is_it = begin(kind, path);          \
  if (is_it < 0) return failed;           \
  __typeof__(call) result = call;         \
  end(is_it);                             \
  return result;

/* --- Opening --- */

static int is_written(int flags) { return (flags & O_ACCMODE) != O_RDONLY; }

#define OPEN(name, folder, call)                                        \
  va_list rest;                                                         \
  va_start(rest, flags);                                                \
  mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
  va_end(rest);                                                         \
  int is_it = 0, is_ours = is_written(flags) && is_below(folder, path); \
  if (is_ours && (is_it = begin("open", path)) < 0) return -1;          \
  int descriptor = call;                                                \
  watch(descriptor, is_ours);                                           \
  end(is_it);                                                           \
  return descriptor;

int open(const char *path, int flags, ...) { OPEN(open, AT_FDCWD, REAL(open)(path, flags, mode)) }
int open64(const char *path, int flags, ...) { OPEN(open64, AT_FDCWD, REAL(open64)(path, flags, mode)) }
int openat(int at, const char *path, int flags, ...) { OPEN(openat, at, REAL(openat)(at, path, flags, mode)) }
int openat64(int at, const char *path, int flags, ...) { OPEN(openat64, at, REAL(openat64)(at, path, flags, mode)) }

#define FOPEN(name)                                                          \
  FILE *name(const char *path, const char *mode) {                           \
    int is_it = 0, is_ours = mode[strcspn(mode, "wa+")] && is_below(AT_FDCWD, path); \
    if (is_ours && (is_it = begin("open", path)) < 0) return NULL;           \
    FILE *file = REAL(name)(path, mode);                                     \
    if (file) watch(fileno(file), is_ours);                                  \
    end(is_it);                                                              \
    return file;                                                             \
  }
FOPEN(fopen)
FOPEN(fopen64)

int close(int descriptor) {
  watch(descriptor, 0);
  return REAL(close)(descriptor);
}

int fclose(FILE *file) {
  if (!watched(fileno(file))) return REAL(fclose)(file);
  watch(fileno(file), 0);
  FORWARD("close", "", EOF, REAL(fclose)(file))
}

/* --- Writing --- */

ssize_t write(int descriptor, const void *bytes, size_t size) {
  if (!watched(descriptor)) return REAL(write)(descriptor, bytes, size);
  size_t part = action == KILL_WITHIN && num_events + 1 == event_number ? size / 2 : size;
  FORWARD("write", "", -1, REAL(write)(descriptor, bytes, part))
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t size, off64_t offset) {
  if (!watched(descriptor)) return REAL(pwrite64)(descriptor, bytes, size, offset);
  size_t part = action == KILL_WITHIN && num_events + 1 == event_number ? size / 2 : size;
  FORWARD("write", "", -1, REAL(pwrite64)(descriptor, bytes, part, offset))
}

size_t fwrite(const void *bytes, size_t size, size_t count, FILE *file) {
  if (!watched(fileno(file))) return REAL(fwrite)(bytes, size, count, file);
  int is_it = begin("write", "");
  if (is_it < 0) return 0;
  if (is_it == 1 && action == KILL_WITHIN) {
    REAL(fwrite)(bytes, 1, size * count / 2, file);
    REAL(fflush)(file);
  }
  end(is_it == 1 && action == KILL_WITHIN);
  size_t written = REAL(fwrite)(bytes, size, count, file);
  end(is_it);
  return written;
}

int fflush(FILE *file) {
  if (!file || !watched(fileno(file))) return REAL(fflush)(file);
  FORWARD("flush", "", EOF, REAL(fflush)(file))
}

int fsync(int descriptor) {
  if (!root_length) return REAL(fsync)(descriptor);
  FORWARD("fsync", "", -1, REAL(fsync)(descriptor))
}

int ftruncate64(int descriptor, off64_t size) {
  if (!watched(descriptor)) return REAL(ftruncate64)(descriptor, size);
  FORWARD("truncate", "", -1, REAL(ftruncate64)(descriptor, size))
}

/* --- Names --- */

int rename(const char *from, const char *to) {
  if (!is_below(AT_FDCWD, to)) return REAL(rename)(from, to);
  FORWARD("rename", to, -1, REAL(rename)(from, to))
}

int unlink(const char *path) {
  if (!is_below(AT_FDCWD, path)) return REAL(unlink)(path);
  FORWARD("unlink", path, -1, REAL(unlink)(path))
}

int unlinkat(int at, const char *path, int flags) {
  if (!is_below(at, path)) return REAL(unlinkat)(at, path, flags);
  FORWARD("unlink", path, -1, REAL(unlinkat)(at, path, flags))
}

int rmdir(const char *path) {
  if (!is_below(AT_FDCWD, path)) return REAL(rmdir)(path);
  FORWARD("rmdir", path, -1, REAL(rmdir)(path))
}

int mkdir(const char *path, mode_t mode) {
  if (!is_below(AT_FDCWD, path)) return REAL(mkdir)(path, mode);
  FORWARD("mkdir", path, -1, REAL(mkdir)(path, mode))
}

int symlink(const char *target, const char *path) {
  if (!is_below(AT_FDCWD, path)) return REAL(symlink)(target, path);
  FORWARD("symlink", path, -1, REAL(symlink)(target, path))
}
