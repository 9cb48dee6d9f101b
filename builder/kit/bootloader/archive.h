/* What the entry reads of its own file: where its records and its PKG lie, and how a failure is told. Shared by the entries of all
 * systems, each of which has its own way to do what is declared first. */

#ifndef MKLLM_ARCHIVE_H
#define MKLLM_ARCHIVE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
enum { LONGEST_PATH = 4096 };
#else
enum { LONGEST_PATH = PATH_MAX };
#endif

enum { EXIT_DAMAGED = 70, EXIT_NO_PLACE = 71, EXIT_OLD_SYSTEM = 72 };

_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct file {
    int fd;                  /* open for reading as long as the process lives */
    uint64_t size;           /* on Windows without a signature behind it */
    char path[LONGEST_PATH]; /* where it lay when it was started */
    bool elevated;           /* set-user-ID or the like: the environment is not to be trusted */
};

bool file_read(const struct file *file, uint64_t offset, void *buffer, size_t length);

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

#endif
