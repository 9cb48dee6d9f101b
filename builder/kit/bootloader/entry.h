/* The entry: what stands in front of PyInstaller's own main (spec/launch.md, 1). One header for its few files. */

#ifndef MKLLM_ENTRY_H
#define MKLLM_ENTRY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { EXIT_DAMAGED = 70, EXIT_NO_PLACE = 71, EXIT_OLD_SYSTEM = 72 };

/* -- say.c: what the user reads ------------------------------------------------------------------------------ */

void say_name(const char *argv0, const char *file);
_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* -- file.c: the file that is running ------------------------------------------------------------------------ */

struct file {
    int fd;               /* open for reading as long as the process lives */
    uint64_t size;
    char path[PATH_MAX];  /* where it lay when it was started, for people and for the place beside it */
    bool elevated;        /* set-user-ID or the like: the environment is not to be trusted */
};

void file_open(struct file *file, const char *argv0);
bool file_read(const struct file *file, uint64_t offset, void *buffer, size_t length);
char *entry_realpath(const char *path, char *resolved);

/* -- record.c: the end record and the central directory (spec/artifact.md) ------------------------------------ */

struct record {
    char kit[17];          /* the kit's id, 16 hexadecimal digits */
    uint32_t pkg_crc;
    uint64_t pkg_end;      /* where the PKG ends and the central directory begins */
    uint64_t native_size;  /* bytes of native modules that the runtime will put beside its own files, at most */
};

void record_read(struct record *record, const struct file *file);

/* -- archive.c: PyInstaller's archive of the frozen runtime ---------------------------------------------------- */

struct item {
    const char *name;      /* relative, as it is called in the home */
    uint64_t offset;       /* of its data in the file */
    uint32_t stored, size; /* bytes in the file, bytes of the result */
    bool deflated;
    char type;             /* 'b' binary, 'x' data, 'Z' zip file, 'n' symbolic link */
};

struct archive {
    const struct file *file;
    struct item *items;    /* those that become files */
    size_t count;
    uint64_t size;         /* bytes of all those files together */
    uint64_t begin, end;   /* the PKG in the file */
    uint64_t files_begin, files_end; /* the part of it that holds the items' data */
    uint32_t crc;          /* of the whole PKG, as promised */
    char glibc[16];        /* the oldest glibc that can run it, empty when it does not say */
    const char *library[32]; /* to be loaded first, in this order */
    size_t libraries;
};

void archive_open(struct archive *archive, const struct file *file, const struct record *record);
uint32_t archive_check(const struct archive *archive, const uint32_t *files_crc);
int archive_extract(const struct archive *archive, const struct item *item, int target);

/* -- tree.c: folders ------------------------------------------------------------------------------------------- */

int tree_make(const char *path);
bool tree_remove(int parent, const char *name);
bool tree_remove_unused(int parent, const char *name);
void tree_sweep(int parent, const char *prefix, const char *suffix);
void tree_sweep_temporary(int parent);
int tree_create(int parent, char name[NAME_MAX], const char *prefix, const char *suffix);
unsigned random_part(void);

/* -- fill.c: the runtime's files into a folder ------------------------------------------------------------------ */

int fill_files(int home, const struct archive *archive, bool (*stop)(void));
int fill_memory(int home, const struct archive *archive, bool (*stop)(void));

/* -- places.c: where a home may be ------------------------------------------------------------------------------ */

enum kind { CACHE, TEMPORARY, BESIDE };

struct place {
    enum kind kind;
    char path[PATH_MAX];
    char reason[96];  /* why it does not serve, once that is known */
};

struct places {
    struct place list[9];
    size_t count;
};

void places_find(struct places *places, const struct file *file);
int place_open(struct place *place, bool executable);
bool place_has_room(struct place *place, int base, uint64_t room);
bool place_refused(struct place *place, int error);
bool place_refused_because(struct place *place, const char *reason);
_Noreturn void places_exhausted(const struct places *places, uint64_t room);

/* -- cache.c, guardian.c: the two ways to have a home -------------------------------------------------------------- */

struct home {
    char path[PATH_MAX];
    const char *kind;  /* "cache", "temporary" or "memory" */
    int guardian;      /* the end of this pipe is the guardian's death; -1 without one */
};

bool cache_home(struct home *home, struct place *place, const struct archive *archive, const char *kit, uint64_t room);
bool guarded_home(struct home *home, struct place *place, const struct archive *archive, bool memory, uint64_t room);

/* -- signals.c ------------------------------------------------------------------------------------------------------- */

void signals_hold(void);
void signals_release(void);
bool signals_pending(void);
int signals_next(void);
_Noreturn void signals_end_as(int status);

/* -- cpu.c ------------------------------------------------------------------------------------------------------------- */

bool cpu_describe(char *text, size_t size);

/* -- loader.c ---------------------------------------------------------------------------------------------------------- */

int loader_run(int argc, char **argv);

#endif
