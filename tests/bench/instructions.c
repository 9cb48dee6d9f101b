/* A plugin of qemu-user's that counts the instructions of a program, and writes the count when it makes certain calls.

   qemu-x86_64 -plugin libinstructions.so,calls=59:50,out=FILE program...

   A line for each of these calls (by their numbers): process, number, instructions so far. Threads add to one count
   without a lock, so that of programs with several at work it may lose some. The declarations are those of version 1 of
   qemu's interface for plugins, which Debian has no header of. */

#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef uint64_t plugin_id;
struct tb;
enum { INLINE_ADD_U64 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
                                          uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
size_t qemu_plugin_tb_n_insns(const struct tb *);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

static uint64_t count;
static int out = 2;
static int64_t calls[16];
static int told;

static void translated(plugin_id id, struct tb *block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, INLINE_ADD_U64, &count, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                   uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    char line[96];
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    for (int i = 0; i < told; i++)
        if (calls[i] == number) {
            int size = snprintf(line, sizeof line, "%d %" PRId64 " %" PRIu64 "\n", (int)getpid(), number, count);
            if (write(out, line, (size_t)size) != size)
                abort();
        }
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    for (int i = 0; i < argc; i++)
        if (strncmp(argv[i], "calls=", 6) == 0) {
            for (char *at = argv[i] + 5; at && told < 16; at = strchr(at + 1, ':'))
                calls[told++] = strtoll(at + 1, NULL, 10);
        } else if (strncmp(argv[i], "out=", 4) == 0) {
            out = open(argv[i] + 4, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
            if (out < 0)
                return 1;
        }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
