"""What each CPU variant of llama.cpp needs: data, a module because it is read at every launch.

Best first, in the order of llama.cpp's own scores. `needs` are the flags of /proc/cpuinfo for the features that
ggml/src/CMakeLists.txt compiles each variant with (AVX512 there means F, CD, VL, DQ and BW); cpuinfo lists a flag only
if the operating system saves its registers.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A backend's name, the machine it is made for, the CPU features that it needs, and what they are called."""

    name: str
    machine: str
    title: str
    needs: tuple[str, ...]


# Backends that compute on GPUs, a vendor's own before what serves all; what they need is not a feature of the CPU.
GPUS = ("cuda", "metal", "vulkan")

_IVYBRIDGE = ("sse4_2", "avx", "f16c")
_HASWELL = (*_IVYBRIDGE, "fma", "bmi2", "avx2")
_AVX512 = (*_HASWELL, "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw")
_CASCADELAKE = (*_AVX512, "avx512_vnni")
_ZEN4 = (*_AVX512, "avx512vbmi", "avx512_vnni", "avx512_bf16")
_ARMV8_6 = ("asimddp", "asimdhp", "sve", "i8mm")

VARIANTS = (
    Variant(
        "cpu-sapphirerapids",
        "x86_64",
        "AVX-512 with VNNI, BF16 and AMX",
        (*_ZEN4, "amx_tile", "amx_int8"),
    ),
    Variant("cpu-zen4", "x86_64", "AVX-512 with VNNI and BF16", _ZEN4),
    Variant(
        "cpu-cooperlake", "x86_64", "AVX-512 with VNNI and BF16, without VBMI", (*_AVX512, "avx512_vnni", "avx512_bf16")
    ),
    Variant("cpu-icelake", "x86_64", "AVX-512 with VNNI and VBMI", (*_AVX512, "avx512vbmi", "avx512_vnni")),
    Variant("cpu-cascadelake", "x86_64", "AVX-512 with VNNI", _CASCADELAKE),
    Variant("cpu-cannonlake", "x86_64", "AVX-512 with VBMI", (*_AVX512, "avx512vbmi")),
    Variant("cpu-skylakex", "x86_64", "AVX-512", _AVX512),
    Variant("cpu-alderlake", "x86_64", "AVX2 with VNNI", (*_HASWELL, "avx_vnni")),
    Variant("cpu-haswell", "x86_64", "AVX2", _HASWELL),
    Variant("cpu-piledriver", "x86_64", "AVX with FMA", (*_IVYBRIDGE, "fma")),
    Variant("cpu-ivybridge", "x86_64", "AVX with F16C", _IVYBRIDGE),
    Variant("cpu-sandybridge", "x86_64", "AVX", ("sse4_2", "avx")),
    Variant("cpu-sse42", "x86_64", "SSE 4.2", ("sse4_2",)),
    Variant("cpu-x64", "x86_64", "plain x86-64", ()),
    Variant("cpu-armv9.2_2", "aarch64", "SVE2, SME and int8 matrices", (*_ARMV8_6, "sve2", "sme")),
    Variant("cpu-armv9.2_1", "aarch64", "SVE, SME and int8 matrices", (*_ARMV8_6, "sme")),
    Variant("cpu-armv8.6_2", "aarch64", "SVE2 and int8 matrices", (*_ARMV8_6, "sve2")),
    Variant("cpu-armv8.6_1", "aarch64", "SVE and int8 matrices", _ARMV8_6),
    Variant("cpu-armv8.2_3", "aarch64", "SVE and dot products", ("asimddp", "asimdhp", "sve")),
    Variant("cpu-armv8.2_2", "aarch64", "dot products and half precision", ("asimddp", "asimdhp")),
    Variant("cpu-armv8.2_1", "aarch64", "dot products", ("asimddp",)),
    Variant("cpu-armv8.0_1", "aarch64", "plain NEON", ()),
    Variant("cpu-apple_m4", "arm64", "dot products, int8 matrices and SME", ("i8mm", "sme")),
    Variant("cpu-apple_m2_m3", "arm64", "dot products and int8 matrices", ("i8mm",)),
    Variant("cpu-apple_m1", "arm64", "dot products", ()),
)
