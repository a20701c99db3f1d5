// Makes a chosen file operation of this process fail, stop, slow down or end the process, wait for
// another save, or slow down all that follow.
//
// Preloaded, it stands between the process and libc's functions for files, and counts the calls
// that concern one directory. The library is for tests: one process arms it once, from one thread.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { KILL, STOP, SLOW, FAIL, VANISH, CRAWL, SECOND_SAVE };
enum moment { BEFORE, IN, AFTER };

#define MAX_FILES 4096
#define MAX_CALLS 65536

static char directory[PATH_MAX];  // empty until faults_watch() is called
static bool watched[MAX_FILES];   // by file descriptor
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int call_count;
static char kinds[MAX_CALLS];  // of each call: o(pen) w(rite) r(ead) s(ync) n(ew name) u(nlink) d(ir)

static int fault_at = -1;
static enum moment fault_moment;
static enum action fault_action;
static int fault_errno;
static bool fails_next_write;  // after half of a write
static bool crawls;            // every call takes longer
static bool fired;

void faults_watch(const char* path) {
  snprintf(directory, sizeof directory, "%s", path);
}

void faults_arm(int at, int moment, int action, int error) {
  fault_moment = (enum moment)moment;
  fault_action = (enum action)action;
  fault_errno = error;
  fault_at = at;
}

int faults_fired(void) { return fired; }

// Returns the number of calls so far, and their kinds as a string.
int faults_calls(const char** out) {
  *out = kinds;
  return call_count;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static bool concerns(const char* path) {
  return directory[0] != '\0' && path != NULL && strstr(path, directory) != NULL;
}

static bool is_watched(int file) { return file >= 0 && file < MAX_FILES && watched[file]; }

// Counts a call. Returns true if the fault is at this one.
static bool count(char kind) {
  pthread_mutex_lock(&lock);
  const int number = call_count;
  if (number < MAX_CALLS - 1) kinds[call_count++] = kind;
  pthread_mutex_unlock(&lock);
  if (crawls) usleep(10 * 1000);
  return number == fault_at;
}

// What happens at the fault. Returns true if the call must fail.
static bool act(void) {
  fired = true;
  switch (fault_action) {
    case KILL:
      kill(getpid(), SIGKILL);
      for (;;) pause();
    case STOP:
      kill(getpid(), SIGSTOP);
      return false;
    case SLOW:
      usleep(700 * 1000);
      return false;
    case VANISH: {
      char away[PATH_MAX + 8];
      snprintf(away, sizeof away, "%s.gone", directory);
      REAL(rename)(directory, away);
      return false;
    }
    case CRAWL:
      crawls = true;
      return false;
    case SECOND_SAVE: {
      char asked[PATH_MAX + 16], done[PATH_MAX + 16];
      snprintf(asked, sizeof asked, "%s.second-asked", directory);
      snprintf(done, sizeof done, "%s.second-done", directory);
      REAL(close)(REAL(open)(asked, O_CREAT | O_WRONLY, 0600));
      for (int waited = 0; waited < 2000 && access(done, F_OK) != 0; ++waited) usleep(10 * 1000);
      return false;
    }
    case FAIL:
      errno = fault_errno;
      return true;
  }
  return false;
}

// Runs a call around which the fault can be. A call without halves acts before it instead.
#define AROUND(kind, is_concerned, type, failure, call)      \
  do {                                                       \
    if (!(is_concerned) || !count(kind)) return (call);      \
    if (fault_moment != AFTER && act()) return (failure);    \
    const type result = (call);                              \
    if (fault_moment == AFTER && act()) return (failure);    \
    return result;                                           \
  } while (0)

static int note_open(int file, const char* path) {
  if (file >= 0 && file < MAX_FILES) watched[file] = concerns(path);
  return file;
}

#define OPEN(name, parameters, arguments)                                                   \
  int name parameters {                                                                     \
    mode_t mode = 0;                                                                        \
    if (flags & (O_CREAT | O_TMPFILE)) {                                                    \
      va_list rest;                                                                         \
      va_start(rest, flags);                                                                \
      mode = va_arg(rest, mode_t);                                                          \
      va_end(rest);                                                                         \
    }                                                                                       \
    AROUND('o', concerns(path), int, -1, note_open(REAL(name) arguments, path));            \
  }
OPEN(open, (const char* path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char* path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char* path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char* path, int flags, ...), (at, path, flags, mode))

int close(int file) {
  if (is_watched(file)) watched[file] = false;
  return REAL(close)(file);
}

// A write in which the fault is writes the first half; if it must fail, the next write does.
#define WRITE(name, parameters, arguments, halved)                                          \
  ssize_t name parameters {                                                                 \
    if (is_watched(file) && fails_next_write) {                                             \
      fails_next_write = false;                                                             \
      errno = fault_errno;                                                                  \
      return -1;                                                                            \
    }                                                                                       \
    if (!is_watched(file) || !count('w')) return REAL(name) arguments;                      \
    if (fault_moment == BEFORE && act()) return -1;                                         \
    if (fault_moment != IN) {                                                               \
      const ssize_t result = REAL(name) arguments;                                          \
      return fault_moment == AFTER && act() ? -1 : result;                                  \
    }                                                                                       \
    const ssize_t result = halved;                                                          \
    fails_next_write = act();                                                               \
    return result;                                                                          \
  }
WRITE(write, (int file, const void* bytes, size_t size), (file, bytes, size),
      REAL(write)(file, bytes, (size + 1) / 2))
WRITE(pwrite, (int file, const void* bytes, size_t size, off_t at), (file, bytes, size, at),
      REAL(pwrite)(file, bytes, (size + 1) / 2, at))
WRITE(pwrite64, (int file, const void* bytes, size_t size, off64_t at), (file, bytes, size, at),
      REAL(pwrite64)(file, bytes, (size + 1) / 2, at))
WRITE(writev, (int file, const struct iovec* parts, int count_of), (file, parts, count_of),
      REAL(writev)(file, parts, (count_of + 1) / 2))

#define READ(name, parameters, arguments)                                                   \
  ssize_t name parameters { AROUND('r', is_watched(file), ssize_t, -1, REAL(name) arguments); }
READ(read, (int file, void* bytes, size_t size), (file, bytes, size))
READ(pread, (int file, void* bytes, size_t size, off_t at), (file, bytes, size, at))
READ(pread64, (int file, void* bytes, size_t size, off64_t at), (file, bytes, size, at))

int fsync(int file) { AROUND('s', is_watched(file), int, -1, REAL(fsync)(file)); }
int fdatasync(int file) { AROUND('s', is_watched(file), int, -1, REAL(fdatasync)(file)); }

int rename(const char* from, const char* to) {
  AROUND('n', concerns(from) || concerns(to), int, -1, REAL(rename)(from, to));
}
int renameat(int at, const char* from, int to_at, const char* to) {
  AROUND('n', concerns(from) || concerns(to), int, -1, REAL(renameat)(at, from, to_at, to));
}
int renameat2(int at, const char* from, int to_at, const char* to, unsigned flags) {
  AROUND('n', concerns(from) || concerns(to), int, -1, REAL(renameat2)(at, from, to_at, to, flags));
}
int unlink(const char* path) { AROUND('u', concerns(path), int, -1, REAL(unlink)(path)); }
int unlinkat(int at, const char* path, int flags) {
  AROUND('u', concerns(path) || is_watched(at), int, -1, REAL(unlinkat)(at, path, flags));
}
int mkdir(const char* path, mode_t mode) {
  AROUND('d', concerns(path), int, -1, REAL(mkdir)(path, mode));
}
int rmdir(const char* path) { AROUND('d', concerns(path), int, -1, REAL(rmdir)(path)); }
