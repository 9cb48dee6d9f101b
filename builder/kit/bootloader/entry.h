/* The entry: what stands in front of PyInstaller's own main (spec/launch.md, 1). One header for its few files. */

#ifndef MKLLM_ENTRY_H
#define MKLLM_ENTRY_H

#include <sys/types.h>

#include "archive.h"

/* -- say.c: what the user reads ------------------------------------------------------------------------------ */

void say_name(const char *argv0, const char *file);

/* -- file.c: the file that is running ------------------------------------------------------------------------ */

void file_open(struct file *file, const char *argv0);
char *entry_realpath(const char *path, char *resolved);

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
