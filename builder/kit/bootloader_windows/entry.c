/* The program's first code: checks the file, finds the frozen runtime a home, and hands over to PyInstaller's loader in this same
 * process. The steps are those of spec/launch.md, 7. */

#include <fcntl.h>
#include <io.h>
#include <stdio.h>
#include <stdlib.h>

#include "entry.h"

int _CRT_glob = 0; /* `*` in a word is a star */

/* A standard stream that is missing, as in a program that was started without a console, would be missing in programs that are
 * started from here, too, and None in Python, which takes it from the C library. */
static void open_streams(void)
{
    FILE *const streams[] = {stdin, stdout, stderr};
    for (int fd = 0; fd < 3; fd++) {
        int nothing = _fileno(streams[fd]) < 0 ? _wopen(L"NUL", _O_RDWR | _O_BINARY) : -1;
        if (nothing < 0)
            continue;
        _dup2(nothing, fd);
        _close(nothing);
        _wfreopen(L"NUL", fd ? L"w" : L"r", streams[fd]); /* which wine does not do; then it stays None */
    }
}

static void find_home(struct home *home, const struct record *record, const struct archive *archive, const wchar_t *file)
{
    static struct places places;
    uint64_t room = archive->size + record->native_size + (1 << 20);
    places_find(&places, file);
    for (size_t i = 0; i < places.count; i++) {
        struct place *place = &places.list[i];
        if (place_open(place) && (place->kind == CACHE ? cache_home(home, place, archive, record->kit, room)
                                                       : temporary_home(home, place, archive, file, room)))
            return;
    }
    places_exhausted(&places, room);
}

static void set(const wchar_t *name, const wchar_t *value)
{
    if (_wputenv_s(name, value) != 0)
        fail(EXIT_NO_PLACE, "there is not enough memory to start: close other programs");
}

int wmain(int argc, wchar_t **argv)
{
    static struct file file;
    static struct archive archive;
    static struct home home;
    static wchar_t path[LONGEST_PATH];
    static char program[LONGEST_PATH], folder[LONGEST_PATH];
    struct record record;
    guardian_run_if_asked();
    open_streams();
    file_open(&file, path);
    record_read(&record, &file);
    archive_open(&archive, &file, &record);
    find_home(&home, &record, &archive, path);
    set(L"MKLLM_FILE", path);
    set(L"MKLLM_HOME", home.path);
    set(L"MKLLM_HOME_KIND", home.kind);
    if (!text_utf8(program, sizeof program, path) || !text_utf8(folder, sizeof folder, home.path))
        fail(EXIT_NO_PLACE, "the path of this file or of its home is no text: rename the folders in it");
    return loader_run(argc, argv, program, file.path, folder);
}
