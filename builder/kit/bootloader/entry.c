/* The program's first code: checks the file, finds the frozen runtime a home, and hands over to PyInstaller's loader, which
 * then neither extracts nor forks. The steps are those of spec/launch.md, 1. */

#include <dlfcn.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "entry.h"

/* A closed standard stream would give its number to the next file opened, and messages would be written into that. */
static void open_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            open("/", O_RDONLY);
}

static int older(const char *have, const char *need)
{
    int have_major = 0, have_minor = 0, need_major = 0, need_minor = 0;
    if (sscanf(have, "%d.%d", &have_major, &have_minor) != 2 || sscanf(need, "%d.%d", &need_major, &need_minor) != 2)
        return 0;
    return have_major != need_major ? have_major < need_major : have_minor < need_minor;
}

static void check_system(const struct archive *archive)
{
    const char *have = gnu_get_libc_version();
    if (older(have, archive->glibc))
        fail(EXIT_OLD_SYSTEM, "this system's C library is glibc %s and this file needs %s or newer: run it on a newer "
             "system, or in a container of one", have, archive->glibc);
}

static void find_home(struct home *home, const struct record *record, const struct archive *archive)
{
    static struct places places;
    uint64_t room = archive->size + record->native_size + (1 << 20);
    places_find(&places, archive->file);
    for (size_t i = 0; i < places.count; i++) {
        struct place *place = &places.list[i];
        if (place->kind == CACHE ? cache_home(home, place, archive, record->kit, room)
                                 : guarded_home(home, place, archive, false, room))
            return;
    }
    for (size_t i = 0; i < places.count; i++) /* caches last: what is put there is removed again */
        if (places.list[i].kind != CACHE && guarded_home(home, &places.list[i], archive, true, 0))
            return;
    for (size_t i = 0; i < places.count; i++)
        if (places.list[i].kind == CACHE && guarded_home(home, &places.list[i], archive, true, 0))
            return;
    places_exhausted(&places, room);
}

/* The libraries that Python and its modules need are then found by name, as already loaded. LD_LIBRARY_PATH would do it too, but
 * only for a process that is started with it, and it would reach every program started from here. */
static void load_libraries(const struct home *home, const struct archive *archive)
{
    char path[PATH_MAX];
    for (size_t i = 0; i < archive->libraries; i++) {
        int length = snprintf(path, sizeof path, "%s/%s", home->path, archive->library[i]);
        if (length >= (int)sizeof path || !dlopen(path, RTLD_LAZY))
            fail(EXIT_OLD_SYSTEM, "a library of the runtime cannot be loaded on this system (%s)", dlerror());
    }
}

static void set(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void set(const char *name, const char *format, ...)
{
    char value[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(value, sizeof value, format, arguments);
    va_end(arguments);
    if (setenv(name, value, 1) != 0)
        fail(EXIT_NO_PLACE, "there is not enough memory to start: close other programs");
}

/* What an outer program frozen by PyInstaller may have left in the environment would mislead the loader. */
static void forget_outer(void)
{
    static const char *const names[] = {
        "PYINSTALLER_RESET_ENVIRONMENT", "PYINSTALLER_STRICT_UNPACK_MODE", "PYINSTALLER_SUPPRESS_SPLASH_SCREEN",
        "_PYI_SPLASH_IPC", "_PYI_LINUX_PROCESS_NAME", "MKLLM_GUARDIAN_FD", "MKLLM_CPUID",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
}

static void hand_over(const struct file *file, const struct home *home)
{
    char archive[PATH_MAX], cpu[64];
    forget_outer();
    set("_PYI_ARCHIVE_FILE", "%s", entry_realpath("/proc/self/exe", archive));
    set("_PYI_PARENT_PROCESS_LEVEL", "0"); /* as its child, extracted for: the main process */
    set("_PYI_APPLICATION_HOME_DIR", "%s", home->path);
    set("MKLLM_FILE", "%s", file->path);
    set("MKLLM_FILE_FD", "%d", file->fd);
    set("MKLLM_HOME", "%s", home->path);
    set("MKLLM_HOME_KIND", "%s", home->kind);
    if (home->guardian >= 0)
        set("MKLLM_GUARDIAN_FD", "%d", home->guardian);
    if (cpu_describe(cpu, sizeof cpu))
        set("MKLLM_CPUID", "%s", cpu);
}

int main(int argc, char **argv)
{
    static struct file file;
    static struct archive archive;
    static struct home home;
    struct record record;
    signal(SIGCHLD, SIG_DFL); /* ignored, as it may be inherited, it would hide from us and from Python how children end */
    open_streams();
    file_open(&file, argv[0]);
    record_read(&record, &file);
    archive_open(&archive, &file, &record);
    check_system(&archive);
    find_home(&home, &record, &archive);
    load_libraries(&home, &archive);
    hand_over(&file, &home);
    return argc > 0 ? loader_run(argc, argv) : loader_run(1, (char *[]){file.path, NULL});
}
