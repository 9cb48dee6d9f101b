/* PyInstaller's loader, called for a home that is there: it neither extracts nor starts a process. Apart, because its headers define
 * `bool` in their own way. What its pyi_main would find out is told to it here, so that no variable of the environment can. */

#include <stdio.h>
#include <windows.h>

#include "pyi_archive.h"
#include "pyi_launch.h"
#include "pyi_main.h"

enum { DAMAGED = 70, OLD_SYSTEM = 72 };

_Noreturn void fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
int loader_run(int argc, wchar_t **argv, const char *program, const char *archive, const char *home);

/* Modules of Python's are loaded with the file's own folder among the places; what Windows has itself, it has first. */
static void prefer_windows(void)
{
    PROCESS_MITIGATION_IMAGE_LOAD_POLICY policy = {0};
    policy.PreferSystem32Images = 1;
    SetProcessMitigationPolicy(ProcessImageLoadPolicy, &policy, sizeof policy);
}

/* Libraries come from the home and from Windows' own folder, never from PATH or the current folder. Python's is loaded here, with
 * what it needs; PyInstaller's loader then finds it loaded. */
static void load_python(const char *home, const char *library)
{
    wchar_t folder[PYI_PATH_MAX], path[PYI_PATH_MAX];
    MultiByteToWideChar(CP_UTF8, 0, home, -1, folder, PYI_PATH_MAX);
    swprintf(path, PYI_PATH_MAX, L"%ls\\%hs", folder, library);
    prefer_windows();
    SetDefaultDllDirectories(LOAD_LIBRARY_SEARCH_SYSTEM32 | LOAD_LIBRARY_SEARCH_USER_DIRS);
    AddDllDirectory(folder);
    if (LoadLibraryExW(path, NULL, LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR | LOAD_LIBRARY_SEARCH_SYSTEM32))
        return;
    DWORD error = GetLastError();
    if (error == ERROR_PROC_NOT_FOUND || error == ERROR_MOD_NOT_FOUND)
        fail(OLD_SYSTEM, "the library %s of the runtime cannot be loaded on this system (error %lu of Windows): Windows 10 or newer "
             "is needed", library, error);
    fail(OLD_SYSTEM, "the library %s in '%s' cannot be loaded (error %lu of Windows): remove that folder, or set MKLLM_RUNTIME_DIR to "
         "one that programs may be run from", library, home, error);
}

int loader_run(int argc, wchar_t **argv, const char *program, const char *archive, const char *home)
{
    struct PYI_CONTEXT *context = global_pyi_ctx;
    context->argc = argc;
    context->argv_w = argv;
    snprintf(context->executable_filename, PYI_PATH_MAX, "%s", program);
    snprintf(context->archive_filename, PYI_PATH_MAX, "%s", archive);
    snprintf(context->application_home_dir, PYI_PATH_MAX, "%s", home);
    context->archive = pyi_archive_open(archive);
    if (!context->archive)
        fail(DAMAGED, "this file is damaged (its Python runtime cannot be opened): copy it again");
    context->is_onefile = 1;
    context->parent_process_level = PYI_PROCESS_LEVEL_PARENT;
    context->process_level = PYI_PROCESS_LEVEL_MAIN;
    setbuf(stderr, NULL);
    load_python(home, context->archive->python_libname);
    pyi_launch_initialize(context);
    int status = pyi_launch_execute(context);
    pyi_launch_finalize(context);
    return status;
}
