/* The entry for Windows: what stands in the place of PyInstaller's own main (spec/launch.md, 7). One header for its few files;
 * what it reads of its file is read by ../bootloader/archive.c and record.c. */

#ifndef MKLLM_ENTRY_H
#define MKLLM_ENTRY_H

#include <wchar.h>
#include <windows.h>

#include "../bootloader/archive.h"

enum { EXIT_INTERRUPTED = 130, EXIT_TERMINATED = 143 };

/* -- text.c: text of Windows, which is UTF-16, and paths, which may be long ------------------------------------------- */

bool text_utf8(char *text, size_t size, const wchar_t *wide);
bool path_join(wchar_t path[LONGEST_PATH], const wchar_t *folder, const wchar_t *name);
bool path_whole(wchar_t path[LONGEST_PATH], const wchar_t *given);
bool path_is_whole(const wchar_t *path);
void path_plain(wchar_t *path);
const wchar_t *path_long(wchar_t buffer[LONGEST_PATH], const wchar_t *path);

/* -- say.c: what the user reads ------------------------------------------------------------------------------------- */

void say_name(const wchar_t *file);

/* -- file.c: the file that is running ------------------------------------------------------------------------------- */

void file_open(struct file *file, wchar_t path[LONGEST_PATH]);

/* -- tree.c: folders and the files in them; an error is one of Windows, 0 when there is none ----------------------------- */

DWORD tree_make(const wchar_t *path);
DWORD tree_rename(const wchar_t *path, const wchar_t *name);
bool tree_remove(const wchar_t *path);
int64_t tree_size(const wchar_t *path);
HANDLE tree_open(const wchar_t *path, DWORD access, DWORD shared, DWORD how);
typedef bool tree_doomed(const wchar_t *path, const wchar_t *name, bool old);
void tree_sweep(const wchar_t *folder, const wchar_t *pattern, tree_doomed *doomed);
unsigned random_part(void);

/* -- places.c: where a home may be ------------------------------------------------------------------------------------ */

enum kind { CACHE, TEMPORARY };

struct place {
    enum kind kind;
    wchar_t path[LONGEST_PATH];
    char reason[160]; /* why it does not serve, once that is known */
};

struct places {
    struct place list[4];
    size_t count;
};

void places_find(struct places *places, const wchar_t *file);
bool place_open(struct place *place);
bool place_has_room(struct place *place, uint64_t room);
bool place_refused(struct place *place, DWORD error);
bool place_refused_because(struct place *place, const char *reason);
_Noreturn void places_exhausted(const struct places *places, uint64_t room);

/* -- home.c, fill.c: the folder that holds the runtime's files ----------------------------------------------------------- */

struct home {
    wchar_t path[LONGEST_PATH];
    const wchar_t *kind; /* "cache" or "temporary" */
};

bool cache_home(struct home *home, struct place *place, const struct archive *archive, const char *kit, uint64_t room);
bool temporary_home(struct home *home, struct place *place, const struct archive *archive, const wchar_t *program,
                    uint64_t room);
DWORD fill_files(const wchar_t *home, const struct archive *archive, bool lasting);
bool fill_path(wchar_t path[LONGEST_PATH], const wchar_t *home, const struct item *item);

/* -- guardian.c: the process that removes a temporary home ---------------------------------------------------------------- */

bool is_temporary(const wchar_t *path);
void guardian_start(const wchar_t *program, const wchar_t *home);
void guardian_run_if_asked(void);

/* -- interrupts.c: Ctrl-C and the like while files are written ------------------------------------------------------------ */

void interrupts_hold(void);
void interrupts_release(void);
bool interrupts_pending(void);

/* -- loader.c --------------------------------------------------------------------------------------------------------------- */

int loader_run(int argc, wchar_t **argv, const char *program, const char *archive, const char *home);

#endif
