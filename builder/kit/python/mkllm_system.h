/* Included before everything that is compiled for Python: calls of the kernel that are older than glibc's functions for them. On an
 * older kernel they fail with ENOSYS, as a newer glibc's own would. */

#ifndef MKLLM_SYSTEM_H
#define MKLLM_SYSTEM_H

#define _GNU_SOURCE 1
#include <sys/types.h>

int memfd_create(const char *name, unsigned flags);
ssize_t copy_file_range(int in, off64_t *in_offset, int out, off64_t *out_offset, size_t length, unsigned flags);

#endif
