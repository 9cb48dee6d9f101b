/* The file's very first code. The kernel starts it without any C library (builder/kit/bootloader.py hides which loader the file
 * asks for), so that it runs on every Linux: it looks whether there is a glibc and how new it is, says in one sentence if that will
 * not do, and else does what the kernel would have done: it maps glibc's loader and hands over, which costs nothing.
 *
 * It runs before anything is relocated: no calls into libraries, no data that holds addresses. */

#include <asm/unistd.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

enum { EXIT_OLD_SYSTEM = 72, PATH = 4096, TEXT = 1024, MOST_HEADERS = 32, NONE = -1, NO_FILE = -2, NO_FOLDER = -20 };

#define LOADER MKLLM_LOADER
#define MUSL "/lib/ld-musl-" MKLLM_MACHINE ".so.1"
#define LIBC "libc.so.6"
#define STRINGIFIED(x) #x
#define STRING(x) STRINGIFIED(x)
#define NEEDED "glibc 2." STRING(MKLLM_GLIBC_MINOR) " or newer"

/* Where libc.so.6 lies if not beside the loader; one after the other, since an array would hold addresses. */
static const char folders[] =
    "/lib64/\0/lib/" MKLLM_TRIPLET "/\0/usr/lib64/\0/usr/lib/" MKLLM_TRIPLET "/\0/usr/lib/\0/lib/\0";

extern char real_start[] __asm__("_start") __attribute__((visibility("hidden")));
extern char image[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));

/* Holds its own address once the loader has done its work, and something else before. */
static void *volatile relocated = (void *)&relocated;

#ifdef __x86_64__
enum { OURS = EM_X86_64 };

__asm__(".globl mkllm_start\n.hidden mkllm_start\n.type mkllm_start, @function\n"
        "mkllm_start:\n"
        "    movq %rsp, %rdi\n"
        "    pushq %rdx\n" /* of use to what comes next */
        "    subq $8, %rsp\n"
        "    call mkllm_begin\n"
        "    addq $8, %rsp\n"
        "    popq %rdx\n"
        "    jmp *%rax\n");

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "+a"(number)
                     : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return number;
}
#elif defined(__aarch64__)
enum { OURS = EM_AARCH64 };

__asm__(".globl mkllm_start\n.hidden mkllm_start\n.type mkllm_start, %function\n"
        "mkllm_start:\n"
        "    mov x19, x0\n" /* of use to what comes next */
        "    mov x29, #0\n"
        "    mov x30, #0\n"
        "    mov x0, sp\n"
        "    bl mkllm_begin\n"
        "    mov x16, x0\n"
        "    mov x0, x19\n"
        "    mov x30, #0\n"
        "    br x16\n");

static long call(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = f;
    __asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}
#else
#error "no entry for this processor"
#endif

static int open_file(const char *path)
{
    return (int)call(__NR_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

static void close_file(int fd)
{
    call(__NR_close, fd, 0, 0, 0, 0, 0);
}

static bool is_error(long result)
{
    return result < 0 && result > -4096;
}

static char *map(uintptr_t at, size_t length, int protection, int flags, int fd, uint64_t offset)
{
    long result = call(__NR_mmap, (long)at, (long)length, protection, flags, fd, (long)offset);
    return is_error(result) ? NULL : (char *)result;
}

/* -- words ------------------------------------------------------------------------------------------------------- */

static size_t append(char *text, size_t used, size_t size, const char *more)
{
    while (*more && used + 1 < size)
        text[used++] = *more++;
    text[used] = 0;
    return used;
}

static const char *last_part(const char *path)
{
    const char *last = path;
    for (; *path; path++)
        if (*path == '/' && path[1])
            last = path + 1;
    return last;
}

static _Noreturn void fail(const char *program, const char *what, const char *detail, const char *then)
{
    char text[TEXT];
    size_t used = append(text, 0, 256, program && *program ? last_part(program) : "mkllm");
    used = append(text, used, TEXT, ": ");
    used = append(text, used, TEXT, what);
    used = append(text, used, TEXT, detail);
    used = append(text, used, TEXT, then);
    used = append(text, used, TEXT, "\n");
    call(__NR_write, 2, (long)text, (long)used, 0, 0, 0);
    for (;;)
        call(__NR_exit_group, EXIT_OLD_SYSTEM, 0, 0, 0, 0, 0);
}

/* -- how new the C library is ---------------------------------------------------------------------------------------- */

struct view {
    const unsigned char *data;
    size_t size;
};

static const void *at(struct view file, uint64_t offset, size_t length)
{
    return offset <= file.size && length <= file.size - offset ? file.data + offset : NULL;
}

static bool is_ours(const Elf64_Ehdr *header)
{
    const unsigned char *ident = header->e_ident;
    return ident[0] == 0x7f && ident[1] == 'E' && ident[2] == 'L' && ident[3] == 'F' && ident[4] == ELFCLASS64 &&
           header->e_machine == OURS && header->e_phentsize == sizeof(Elf64_Phdr) &&
           header->e_phnum <= MOST_HEADERS;
}

/* Where in the file lies what is to be found at that address; past its end if nowhere. */
static uint64_t offset_of(struct view file, uint64_t address)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)file.data;
    const Elf64_Phdr *segment = at(file, header->e_phoff, header->e_phnum * sizeof *segment);
    for (int i = 0; segment && i < header->e_phnum; i++, segment++)
        if (segment->p_type == PT_LOAD && address >= segment->p_vaddr && address - segment->p_vaddr < segment->p_filesz)
            return segment->p_offset + (address - segment->p_vaddr);
    return UINT64_MAX;
}

/* The number in `GLIBC_2.<number>`, else NONE. */
static int minor_of(struct view file, uint64_t offset)
{
    const char *prefix = "GLIBC_2.", *name;
    for (; *prefix; prefix++, offset++)
        if (!(name = at(file, offset, 1)) || *name != *prefix)
            return NONE;
    int number = 0;
    for (; (name = at(file, offset, 1)) && *name >= '0' && *name <= '9' && number < 1000; offset++)
        number = number * 10 + (*name - '0');
    return number;
}

static int newest_version(struct view file, uint64_t definitions, uint64_t count, uint64_t names)
{
    int newest = NONE;
    for (; count--;) {
        const Elf64_Verdef *entry = at(file, definitions, sizeof *entry);
        const Elf64_Verdaux *name = entry ? at(file, definitions + entry->vd_aux, sizeof *name) : NULL;
        if (!name)
            break;
        int minor = minor_of(file, names + name->vda_name);
        newest = minor > newest ? minor : newest;
        if (!entry->vd_next)
            break;
        definitions += entry->vd_next;
    }
    return newest;
}

static int version_of(struct view file)
{
    const Elf64_Ehdr *header = at(file, 0, sizeof *header);
    if (!header || !is_ours(header))
        return NONE;
    const Elf64_Phdr *segment = at(file, header->e_phoff, header->e_phnum * sizeof *segment);
    uint64_t definitions = 0, count = 0, names = 0;
    for (int i = 0; segment && i < header->e_phnum; i++, segment++) {
        if (segment->p_type != PT_DYNAMIC)
            continue;
        const Elf64_Dyn *entry;
        for (uint64_t here = segment->p_offset; (entry = at(file, here, sizeof *entry)) && entry->d_tag; here += sizeof *entry) {
            definitions = entry->d_tag == DT_VERDEF ? entry->d_un.d_ptr : definitions;
            count = entry->d_tag == DT_VERDEFNUM ? entry->d_un.d_val : count;
            names = entry->d_tag == DT_STRTAB ? entry->d_un.d_ptr : names;
        }
    }
    return newest_version(file, offset_of(file, definitions), count, offset_of(file, names));
}

static int version_of_file(int fd)
{
    long size = call(__NR_lseek, fd, 0, 2 /* the end */, 0, 0, 0);
    char *data = size > 0 ? map(0, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int minor = data ? version_of((struct view){(const unsigned char *)data, (size_t)size}) : NONE;
    if (data)
        call(__NR_munmap, (long)data, size, 0, 0, 0, 0);
    close_file(fd);
    return minor;
}

/* The folder of what the loader's name leads to, which is where its library lies; empty without /proc. */
static void folder_of(int loader, char folder[PATH])
{
    char link[64], digits[12];
    size_t count = 0, used = append(link, 0, sizeof link, "/proc/self/fd/");
    do
        digits[count++] = (char)('0' + loader % 10);
    while ((loader /= 10));
    while (count && used + 1 < sizeof link)
        link[used++] = digits[--count];
    link[used] = 0;
    long length = call(__NR_readlinkat, AT_FDCWD, (long)link, (long)folder, PATH - sizeof LIBC, 0, 0);
    for (length = is_error(length) ? 0 : length; length && folder[length - 1] != '/';)
        length--;
    folder[length] = 0;
}

/* The 2.x of this system's glibc, NONE when it cannot be told. */
static int glibc_minor(int loader)
{
    char path[PATH];
    folder_of(loader, path);
    for (const char *next = folders; *path || *next;) {
        size_t used = 0;
        if (!*path) {
            used = append(path, 0, sizeof path, next);
            next += used + 1;
        }
        while (path[used])
            used++;
        append(path, used, sizeof path, LIBC);
        int fd = open_file(path), minor = fd >= 0 ? version_of_file(fd) : NONE;
        if (minor != NONE)
            return minor;
        *path = 0;
    }
    return NONE;
}

static bool exists(const char *path)
{
    return call(__NR_faccessat, AT_FDCWD, (long)path, 0, 0, 0, 0) == 0;
}

static void check_glibc(const char *program, int loader)
{
    bool is_absent = loader == NO_FILE || loader == NO_FOLDER;
    int minor = loader >= 0 ? glibc_minor(loader) : NONE;
    if (loader < 0 && !is_absent)
        return; /* it is there, and cannot be opened */
    if (minor == NONE && exists(MUSL))
        fail(program, "this system's C library is musl, and this file needs " NEEDED, "",
             ": run it on a system with glibc, or in a container of one");
    if (loader < 0)
        fail(program, "this system has no C library for it: there is no " LOADER ", and this file needs " NEEDED, "",
             ": run it on a system with glibc, or in a container of one");
    if (minor != NONE && minor < MKLLM_GLIBC_MINOR) {
        char number[] = {(char)('0' + minor / 10), (char)('0' + minor % 10), 0};
        fail(program, "this system's C library is glibc 2.", minor < 10 ? number + 1 : number,
             ", and this file needs " NEEDED ": run it on a newer system, or in a container of one");
    }
}

/* -- what the kernel would have done --------------------------------------------------------------------------------- */

static uintptr_t down(uintptr_t value, uintptr_t page)
{
    return value & ~(page - 1);
}

static int protection_of(const Elf64_Phdr *segment)
{
    return (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
           (segment->p_flags & PF_X ? PROT_EXEC : 0);
}

static bool map_segment(int fd, const Elf64_Phdr *segment, uintptr_t base, uintptr_t page)
{
    uintptr_t begin = base + down(segment->p_vaddr, page), zeros = base + segment->p_vaddr + segment->p_filesz;
    uintptr_t end = down(base + segment->p_vaddr + segment->p_memsz + page - 1, page), filled = down(zeros + page - 1, page);
    int protection = protection_of(segment);
    if (!map(begin, zeros - begin, protection, MAP_PRIVATE | MAP_FIXED, fd, down(segment->p_offset, page)))
        return false;
    if (segment->p_memsz > segment->p_filesz)
        for (volatile char *byte = (char *)zeros; byte < (char *)filled; byte++)
            *byte = 0;
    return end <= filled || map(filled, end - filled, protection, MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0);
}

/* Maps the loader; where it begins, or 0. */
static uintptr_t map_loader(int fd, uintptr_t page, uintptr_t *entry)
{
    union {
        Elf64_Ehdr header;
        char bytes[sizeof(Elf64_Ehdr) + MOST_HEADERS * sizeof(Elf64_Phdr)];
    } start;
    long got = call(__NR_pread64, fd, (long)&start, sizeof start, 0, 0, 0);
    long size = call(__NR_lseek, fd, 0, 2 /* the end */, 0, 0, 0);
    struct view head = {(const unsigned char *)start.bytes, got < 0 ? 0 : (size_t)got};
    if (got < (long)sizeof start.header || is_error(size) || !is_ours(&start.header) || start.header.e_type != ET_DYN)
        return 0;
    const Elf64_Phdr *segments = at(head, start.header.e_phoff, start.header.e_phnum * sizeof *segments);
    uintptr_t end = 0;
    for (int i = 0; segments && i < start.header.e_phnum; i++) {
        if (segments[i].p_type != PT_LOAD)
            continue;
        if (segments[i].p_offset > (uint64_t)size || segments[i].p_filesz > (uint64_t)size - segments[i].p_offset)
            return 0;
        if (segments[i].p_vaddr + segments[i].p_memsz > end)
            end = segments[i].p_vaddr + segments[i].p_memsz;
    }
    if (!end)
        return 0;
    uintptr_t base = (uintptr_t)map(0, end, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; base && i < start.header.e_phnum; i++)
        if (segments[i].p_type == PT_LOAD && !map_segment(fd, &segments[i], base, page))
            return 0;
    *entry = base + start.header.e_entry;
    return base;
}

/* The loader is to find this file as if the kernel had started it: with the loader's name where that was hidden. */
static void unhide(Elf64_Phdr *segments, size_t count, uintptr_t page)
{
    uintptr_t begin = down((uintptr_t)segments, page), end = (uintptr_t)(segments + count);
    call(__NR_mprotect, (long)begin, (long)(end - begin), PROT_READ | PROT_WRITE, 0, 0, 0);
    for (size_t i = 0; i < count; i++)
        if (segments[i].p_type == PT_NULL && segments[i].p_filesz)
            segments[i].p_type = PT_INTERP;
    call(__NR_mprotect, (long)begin, (long)(end - begin), PROT_READ, 0, 0, 0);
}

static Elf64_auxv_t *find(Elf64_auxv_t *facts, uint64_t type)
{
    while (facts->a_type != AT_NULL && facts->a_type != type)
        facts++;
    return facts;
}

/* From the stack as the kernel left it to the address at which the program goes on. */
__attribute__((visibility("hidden"), used)) uintptr_t mkllm_begin(uintptr_t *stack)
{
    if (relocated == (void *)&relocated) /* the loader was asked to run the file, and has already done so */
        return (uintptr_t)real_start;
    uintptr_t *words = stack + 1;
    const char *program = stack[0] ? (const char *)words[0] : NULL;
    for (words += stack[0] + 1; *words;)
        words++;
    Elf64_auxv_t *facts = (Elf64_auxv_t *)(words + 1);
    uintptr_t page = find(facts, AT_PAGESZ)->a_un.a_val, entry = 0;
    int fd = open_file(LOADER);
    check_glibc(program, fd);
    uintptr_t base = map_loader(fd, page, &entry);
    if (!base)
        fail(program, "the loader of this system's C library, " LOADER ", cannot be used", "",
             ": mend the system's installation of glibc");
    close_file(fd);
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)image;
    unhide((Elf64_Phdr *)(image + header->e_phoff), header->e_phnum, page);
    find(facts, AT_BASE)->a_un.a_val = base;
    find(facts, AT_ENTRY)->a_un.a_val = (uintptr_t)real_start;
    return entry;
}
