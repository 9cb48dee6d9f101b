/* PyInstaller's loader, called. Apart, because its headers define `bool` in their own way. */

#include "pyi_main.h"

int loader_run(int argc, char **argv);

int loader_run(int argc, char **argv)
{
    global_pyi_ctx->argc = argc;
    global_pyi_ctx->argv = argv;
    return pyi_main(global_pyi_ctx);
}
