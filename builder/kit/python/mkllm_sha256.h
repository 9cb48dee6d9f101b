/* SHA-256 by the processor's own instructions, where it has them; sha256module.c calls it before its own loop. */

#include <stddef.h>

void mkllm_sha256(unsigned *state, unsigned char **data, ptrdiff_t *length);
