/* data_dir/secret: the key of guests' tokens. It is written beside its place and linked there, so
 * that whoever reads it reads all of it, and of two processes that start together one wins. */
#include "auth/auth_priv.h"
#include "codec/base64.h"
#include "diag/diag.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/rand.h>

#define PATH_MAX_BYTES 4400
#define RANDOM_BYTES   32

static enum err secret_fail(struct buf *message, const char *path, const char *what)
{
    buf_printf(message, "%s: %s: %s", path, what, strerrordesc_np(errno));
    return ERR_IO;
}

/* `path` and the folders above it. */
static bool folders_make(char *path)
{
    for (char *at = path + 1;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char kept = *at;
        *at = '\0';
        bool is_there = mkdir(path, 0700) == 0 || errno == EEXIST;
        *at = kept;
        if (!is_there)
            return false;
        if (kept == '\0')
            return true;
    }
}

/* Everything up to the limit; -1 = error. */
static ssize_t fd_read(int fd, uint8_t *to, size_t bytes_max)
{
    size_t count = 0;
    while (count < bytes_max) {
        ssize_t got = read(fd, to + count, bytes_max - count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        count += (size_t)got;
    }
    return (ssize_t)count;
}

/* ERR_NOT_FOUND when there is none. */
static enum err secret_read(const char *path, uint8_t out[SECRET_BYTES_MAX], size_t *count_out,
                            struct buf *message)
{
    struct stat about;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_NOT_FOUND : secret_fail(message, path, "cannot be read");
    bool is_open = fstat(fd, &about) == 0 && (about.st_mode & 077) != 0;
    ssize_t count = fd_read(fd, out, SECRET_BYTES_MAX);
    int kept = errno;
    (void)close(fd); /* nothing was written */
    errno = kept;
    if (count < 0)
        return secret_fail(message, path, "cannot be read");
    while (count > 0 && out[count - 1] <= ' ')
        count--;
    if (count < SECRET_BYTES_MIN || count == SECRET_BYTES_MAX) {
        buf_printf(message, "%s: is not a secret; allowed: %d to %d bytes, or no such file", path,
                   SECRET_BYTES_MIN, SECRET_BYTES_MAX - 1);
        return ERR_PROTO;
    }
    if (is_open)
        diag_log(DIAG_WARN, "secret_readable", "file=%s why=\"others may read it; chmod 600\"",
                 diag_quote(bytes_of(path)));
    *count_out = (size_t)count;
    return ERR_OK;
}

static bool fd_write(int fd, struct bytes b)
{
    while (b.count > 0) {
        ssize_t wrote = write(fd, b.at, b.count);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return false;
        b.at += wrote;
        b.count -= (size_t)wrote;
    }
    return fsync(fd) == 0;
}

/* Puts a new secret at `path` unless somebody was first, which is as good. */
static bool secret_make(const char *path)
{
    char beside[PATH_MAX_BYTES + 32];
    uint8_t bytes[RANDOM_BYTES];
    uint8_t text[(RANDOM_BYTES * 4 + 2) / 3 + 1];
    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        errno = EIO;
        return false;
    }
    size_t count = base64url_encode(bytes_make(bytes, sizeof(bytes)), text);
    text[count++] = '\n';
    (void)snprintf(beside, sizeof(beside), "%s.%ld", path, (long)getpid());
    (void)unlink(beside); /* of a process with this number that died here */
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool is_good = fd_write(fd, bytes_make(text, count));
    is_good = close(fd) == 0 && is_good;
    is_good = is_good && (link(beside, path) == 0 || errno == EEXIST);
    int kept = errno;
    (void)unlink(beside);
    errno = kept;
    return is_good;
}

static void folder_sync(const char *folder)
{
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void)fsync(fd); /* a lost name costs guests their identity, not a message */
    (void)close(fd);
}

enum err secret_load(const char *data_dir, uint8_t out[SECRET_BYTES_MAX], size_t *count_out,
                     struct buf *message)
{
    char folder[PATH_MAX_BYTES];
    char path[PATH_MAX_BYTES + 8];
    int wanted = snprintf(folder, sizeof(folder), "%s", data_dir);
    if (wanted <= 0 || (size_t)wanted >= sizeof(folder)) {
        errno = ENAMETOOLONG;
        return secret_fail(message, "data_dir", "cannot be used");
    }
    (void)snprintf(path, sizeof(path), "%s/secret", folder);
    enum err err = secret_read(path, out, count_out, message);
    if (err != ERR_NOT_FOUND)
        return err;
    if (!folders_make(folder))
        return secret_fail(message, data_dir, "cannot be made");
    if (!secret_make(path))
        return secret_fail(message, path, "cannot be made");
    folder_sync(folder);
    err = secret_read(path, out, count_out, message);
    if (err == ERR_NOT_FOUND)
        return secret_fail(message, path, "vanished");
    return err;
}
