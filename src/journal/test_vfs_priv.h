/* test_vfs: SQLite's files, counted, and failing when a test wants: a disk that can be hurt.
 *
 * Owner   : the process; test_vfs_install once, before anything is opened.
 * Thread  : any; the counters are atomics. Memory: SQLite's own file objects.
 * Source  : the shim pattern of sqlite.org/vfs.html. */
#ifndef JOURNAL_TEST_VFS_PRIV_H
#define JOURNAL_TEST_VFS_PRIV_H

#include "base/base.h"

#include <sqlite3.h>
#include <stdatomic.h>

enum vfs_call { VFS_WRITE, VFS_SYNC, VFS_TRUNCATE, VFS_READ, VFS_CALLS };

struct vfs_disk {
    _Atomic uint64_t calls[VFS_CALLS];
    _Atomic uint64_t wal_syncs;
    _Atomic int fail_at[VFS_CALLS]; /* the n-th from now fails, once; 0 = none */
    _Atomic bool fail_for_good;     /* ... and all of its kind after it */
    _Atomic int code;               /* with this */
};

static struct vfs_disk vfs_disk;

struct vfs_file {
    sqlite3_file base;
    sqlite3_file *real;
    bool is_wal;
};

static sqlite3_vfs *vfs_real;

static inline sqlite3_file *vfs_of(sqlite3_file *f)
{
    return ((struct vfs_file *)(void *)f)->real;
}

/* SQLITE_OK, or what the call must fail with. */
static inline int vfs_call(enum vfs_call which)
{
    atomic_fetch_add(&vfs_disk.calls[which], 1);
    int left = atomic_load(&vfs_disk.fail_at[which]);
    if (left == 0)
        return SQLITE_OK;
    if (left > 1) {
        atomic_store(&vfs_disk.fail_at[which], left - 1);
        return SQLITE_OK;
    }
    if (!atomic_load(&vfs_disk.fail_for_good))
        atomic_store(&vfs_disk.fail_at[which], 0);
    return atomic_load(&vfs_disk.code);
}

static inline int vfs_close(sqlite3_file *f)
{
    return vfs_of(f)->pMethods->xClose(vfs_of(f));
}

static inline int vfs_read(sqlite3_file *f, void *at, int count, sqlite3_int64 offset)
{
    int rc = vfs_call(VFS_READ);
    return rc != SQLITE_OK ? rc : vfs_of(f)->pMethods->xRead(vfs_of(f), at, count, offset);
}

/* A write that fails leaves a piece behind, as disks do. */
static inline int vfs_write(sqlite3_file *f, const void *at, int count, sqlite3_int64 offset)
{
    int rc = vfs_call(VFS_WRITE);
    if (rc == SQLITE_OK)
        return vfs_of(f)->pMethods->xWrite(vfs_of(f), at, count, offset);
    (void)vfs_of(f)->pMethods->xWrite(vfs_of(f), at, count / 2, offset);
    return rc;
}

static inline int vfs_truncate(sqlite3_file *f, sqlite3_int64 size)
{
    int rc = vfs_call(VFS_TRUNCATE);
    return rc != SQLITE_OK ? rc : vfs_of(f)->pMethods->xTruncate(vfs_of(f), size);
}

static inline int vfs_sync(sqlite3_file *f, int flags)
{
    if (((struct vfs_file *)(void *)f)->is_wal)
        atomic_fetch_add(&vfs_disk.wal_syncs, 1);
    int rc = vfs_call(VFS_SYNC);
    return rc != SQLITE_OK ? rc : vfs_of(f)->pMethods->xSync(vfs_of(f), flags);
}

static inline int vfs_size(sqlite3_file *f, sqlite3_int64 *size)
{
    return vfs_of(f)->pMethods->xFileSize(vfs_of(f), size);
}

static inline int vfs_lock(sqlite3_file *f, int lock)
{
    return vfs_of(f)->pMethods->xLock(vfs_of(f), lock);
}

static inline int vfs_unlock(sqlite3_file *f, int lock)
{
    return vfs_of(f)->pMethods->xUnlock(vfs_of(f), lock);
}

static inline int vfs_reserved(sqlite3_file *f, int *out)
{
    return vfs_of(f)->pMethods->xCheckReservedLock(vfs_of(f), out);
}

static inline int vfs_control(sqlite3_file *f, int op, void *arg)
{
    return vfs_of(f)->pMethods->xFileControl(vfs_of(f), op, arg);
}

static inline int vfs_sector(sqlite3_file *f)
{
    return vfs_of(f)->pMethods->xSectorSize(vfs_of(f));
}

static inline int vfs_device(sqlite3_file *f)
{
    return vfs_of(f)->pMethods->xDeviceCharacteristics(vfs_of(f));
}

static inline int vfs_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **at)
{
    return vfs_of(f)->pMethods->xShmMap(vfs_of(f), region, size, extend, at);
}

static inline int vfs_shm_lock(sqlite3_file *f, int offset, int count, int flags)
{
    return vfs_of(f)->pMethods->xShmLock(vfs_of(f), offset, count, flags);
}

static inline void vfs_shm_barrier(sqlite3_file *f)
{
    vfs_of(f)->pMethods->xShmBarrier(vfs_of(f));
}

static inline int vfs_shm_unmap(sqlite3_file *f, int delete_flag)
{
    return vfs_of(f)->pMethods->xShmUnmap(vfs_of(f), delete_flag);
}

static inline int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
    static const sqlite3_io_methods methods = {
        .iVersion = 2, /* no memory mapping: every byte comes through here */
        .xClose = vfs_close,
        .xRead = vfs_read,
        .xWrite = vfs_write,
        .xTruncate = vfs_truncate,
        .xSync = vfs_sync,
        .xFileSize = vfs_size,
        .xLock = vfs_lock,
        .xUnlock = vfs_unlock,
        .xCheckReservedLock = vfs_reserved,
        .xFileControl = vfs_control,
        .xSectorSize = vfs_sector,
        .xDeviceCharacteristics = vfs_device,
        .xShmMap = vfs_shm_map,
        .xShmLock = vfs_shm_lock,
        .xShmBarrier = vfs_shm_barrier,
        .xShmUnmap = vfs_shm_unmap,
    };
    (void)v;
    struct vfs_file *mine = (void *)f;
    mine->real = (void *)(mine + 1);
    mine->is_wal = (flags & SQLITE_OPEN_WAL) != 0;
    memset(mine->real, 0, (size_t)vfs_real->szOsFile);
    int rc = vfs_real->xOpen(vfs_real, name, mine->real, flags, out);
    mine->base.pMethods = rc == SQLITE_OK ? &methods : NULL;
    return rc;
}

static inline void test_vfs_install(void)
{
    static sqlite3_vfs shim;
    if (vfs_real != NULL)
        return;
    vfs_real = sqlite3_vfs_find(NULL);
    CHECK(vfs_real != NULL);
    shim = *vfs_real;
    shim.zName = "test_vfs";
    shim.szOsFile = (int)sizeof(struct vfs_file) + vfs_real->szOsFile;
    shim.xOpen = vfs_open;
    shim.pNext = NULL;
    int rc = sqlite3_vfs_register(&shim, 1);
    CHECK(rc == SQLITE_OK);
}

/* The n-th call of its kind from now fails with `code`. */
static inline void vfs_hurt(enum vfs_call which, int n, int code, bool for_good)
{
    atomic_store(&vfs_disk.code, code);
    atomic_store(&vfs_disk.fail_for_good, for_good);
    atomic_store(&vfs_disk.fail_at[which], n);
}

static inline void vfs_heal(void)
{
    for (int i = 0; i < VFS_CALLS; i++)
        atomic_store(&vfs_disk.fail_at[i], 0);
}

#endif
