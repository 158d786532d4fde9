/* One process per data_dir. The lock is the open file's: it goes when the process does, however it
 * goes. The file names the holder, for people. */
#include "engine/engine.h"
#include "journal/journal_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_WAIT_MS   2000
#define LOCK_STEP_MS   20
#define PATH_BYTES_MAX 4096

/* A name that was made is on the disk only when its folder is. */
static void folder_sync(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* not every file system can; those that can do */
    (void)close(fd);
}

/* Makes the folder `path` unless it is there, and its name last. */
static bool folder_make(char *path)
{
    if (mkdir(path, 0700) != 0)
        return errno == EEXIST;
    char *slash = strrchr(path, '/');
    if (slash == NULL) {
        folder_sync(".");
    } else if (slash == path) {
        folder_sync("/");
    } else {
        *slash = '\0';
        folder_sync(path);
        *slash = '/';
    }
    return true;
}

/* Makes every missing folder of `path`; the data is nobody else's business. */
static bool folders_make(char *path)
{
    for (char *at = path + 1; *at != '\0'; at++) {
        if (*at != '/' || at[1] == '\0')
            continue;
        *at = '\0';
        bool made = folder_make(path);
        *at = '/';
        if (!made)
            return false;
    }
    return folder_make(path);
}

static void holder_name(int fd, struct buf *message)
{
    char text[32];
    ssize_t got = pread(fd, text, sizeof(text), 0);
    size_t count = 0;
    while (got > 0 && count < (size_t)got && text[count] >= '0' && text[count] <= '9')
        count++;
    buf_text(message, "process ");
    if (count > 0)
        buf_put(message, text, count);
    else
        buf_text(message, "unknown");
}

static void holder_write(int fd)
{
    char text[32];
    struct buf b;
    buf_init_fixed(&b, text, sizeof(text));
    buf_i64(&b, getpid());
    buf_byte(&b, '\n');
    if (ftruncate(fd, 0) == 0)
        (void)!pwrite(fd, text, b.count, 0); /* only a hint for people: a full disk may hide it */
}

static bool flock_wait(int fd)
{
    struct mono end = mono_after_ms(mono_now(), LOCK_WAIT_MS);
    for (;;) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if ((errno != EWOULDBLOCK && errno != EINTR) || mono_reached(end, mono_now()))
            return false;
        (void)poll(NULL, 0, LOCK_STEP_MS); /* flock knows no deadline: looks again and again */
    }
}

enum err lock_take(const char *data_dir, struct lock *out, struct buf *message)
{
    char path[PATH_BYTES_MAX];
    struct buf b;
    buf_init_fixed(&b, path, sizeof(path));
    buf_text(&b, data_dir);
    buf_byte(&b, 0);
    if (b.failed || b.count < 2 || !folders_make(path)) {
        buf_printf(message, "data_dir %s cannot be made: %s", data_dir,
                   b.failed ? "its name is too long" : strerror(errno));
        return ERR_IO;
    }
    folder_sync(path);
    b.count--;
    buf_text(&b, "/lock");
    buf_byte(&b, 0);
    int fd = b.failed ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        buf_printf(message, "%s/lock cannot be opened: %s", data_dir, strerror(errno));
        return ERR_IO;
    }
    if (!flock_wait(fd)) {
        buf_printf(message, "data_dir %s is in use by ", data_dir);
        holder_name(fd, message);
        (void)close(fd);
        return ERR_CONFLICT;
    }
    holder_write(fd);
    out->fd = fd;
    return ERR_OK;
}

void lock_drop(struct lock *l)
{
    if (l->fd >= 0)
        (void)close(l->fd); /* gives the lock back */
    l->fd = -1;
}
