/* What glibc 2.17 has no function for; rides along with a module, so that it is part of Python's library. */

#include "mkllm_system.h"
#include <sys/syscall.h>
#include <unistd.h>

int memfd_create(const char *name, unsigned flags)
{
    return (int)syscall(SYS_memfd_create, name, flags);
}

ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length, unsigned flags)
{
    return syscall(SYS_copy_file_range, in, in_offset, out, out_offset, length, flags);
}
