/* A backend module that dies when it is told to, and until then is the real one, which lies beside it as real-<its own name>.
 *
 * CRASH_AT is the moment: `score` or `init` (the module is loaded), `device` (the weights are loaded), `graph` (something is
 * computed, first of all to warm up), `prompt` (of more than a few tokens), or the name of a file: computing once it is there. CRASH_IN names the modules
 * that die, all without it. CRASH_BY is how: SIGILL, SIGSEGV, SIGABRT, or `assert`, as ggml does when it finds a defect. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ggml-backend-impl.h"

enum { FEW_TOKENS = 4 };

typedef void (*ggml_abort_t)(const char *, int, const char *, ...);

static ggml_backend_t (*real_device)(ggml_backend_dev_t, const char *);
static enum ggml_status (*real_graph)(ggml_backend_t, struct ggml_cgraph *);
static struct ggml_tensor *(*node)(struct ggml_cgraph *, int);

static const char *own_path(void)
{
    Dl_info info;
    return dladdr((void *)own_path, &info) ? info.dli_fname : "";
}

static void *real(const char *symbol)
{
    char path[PATH_MAX];
    const char *own = own_path(), *name = strrchr(own, '/');
    snprintf(path, sizeof path, "%.*s/real-%s", (int)(name - own), own, name + 1);
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL), *found = module ? dlsym(module, symbol) : NULL;
    if (!found) {
        fprintf(stderr, "error: %s\n", dlerror());
        exit(3);
    }
    return found;
}

static void die(void)
{
    const char *how = getenv("CRASH_BY");
    if (how && strcmp(how, "SIGSEGV") == 0)
        *(volatile int *)8 = 0;
    if (how && strcmp(how, "SIGABRT") == 0)
        abort();
    if (how && strcmp(how, "assert") == 0)
        ((ggml_abort_t)real("ggml_abort"))(__FILE__, __LINE__, "GGML_ASSERT(not told to) failed");
    __builtin_trap(); /* an illegal instruction */
}

static void reached(const char *moment)
{
    const char *at = getenv("CRASH_AT"), *in = getenv("CRASH_IN"), *name = strrchr(own_path(), '/');
    if (!at || (in && (!name || !strstr(in, name + 1))))
        return;
    if (strcmp(at, moment) == 0 || (strcmp(moment, "graph") == 0 && *at == '/' && access(at, F_OK) == 0))
        die();
}

static enum ggml_status graph(ggml_backend_t backend, struct ggml_cgraph *nodes)
{
    reached("graph");
    if (node(nodes, 0)->ne[1] > FEW_TOKENS) /* the rows of the tokens' embeddings */
        reached("prompt");
    return real_graph(backend, nodes);
}

static ggml_backend_t device(ggml_backend_dev_t from, const char *parameters)
{
    reached("device");
    ggml_backend_t backend = real_device(from, parameters);
    real_graph = backend->iface.graph_compute;
    backend->iface.graph_compute = graph;
    return backend;
}

int ggml_backend_score(void)
{
    reached("score");
    return ((ggml_backend_score_t)real("ggml_backend_score"))();
}

ggml_backend_reg_t ggml_backend_init(void)
{
    reached("init");
    ggml_backend_reg_t registered = ((ggml_backend_init_t)real("ggml_backend_init"))();
    *(void **)&node = real("ggml_graph_node");
    ggml_backend_dev_t first = registered->iface.get_device(registered, 0);
    real_device = first->iface.init_backend;
    first->iface.init_backend = device;
    return registered;
}
