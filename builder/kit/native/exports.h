// What ggml's libraries export on Windows is what ggml names, as with Microsoft's compiler. With MinGW's headers it would name
// nothing, and the linker export everything: two libraries would then define functions of the C library itself.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#pragma push_macro("__MINGW32__")
#undef __MINGW32__
#include "ggml-backend.h"
#pragma pop_macro("__MINGW32__")
