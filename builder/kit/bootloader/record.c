/* The end of the file: end record, comment, zip64 record and central directory (spec/artifact.md), all checked. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "archive.h"
#include "zlib.h"

enum { COMMENT = 128, END = 22, LOCATOR = 20, END64 = 56, TAIL = END64 + LOCATOR + END + COMMENT };
enum { CENTRAL = 46, MOST_DIRECTORY = 64 << 20, UNPACKED = 4 };

#ifdef _WIN32
static const char variant[] = "native/ggml-cpu-";
#else
static const char variant[] = "native/libggml-cpu-";
#endif

static uint32_t le32(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t le16(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint64_t le64(const unsigned char *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static _Noreturn void damaged(const struct file *file, const char *what)
{
    fail(EXIT_DAMAGED, "this file is truncated or damaged (%s; it is %llu bytes long): copy it again", what,
         (unsigned long long)file->size);
}

/* Reads so many lower-case hexadecimal digits and returns what follows them; NULL when there are fewer. */
static const char *hexadecimal(const char *text, int digits, uint64_t *value)
{
    static const char all[] = "0123456789abcdef";
    for (*value = 0; digits--; text++) {
        const char *found = memchr(all, *text, 16);
        if (!found)
            return NULL;
        *value = *value << 4 | (uint64_t)(found - all);
    }
    return text;
}

static const char *expect(const char *text, const char *word)
{
    size_t length = strlen(word);
    return text && strncmp(text, word, length) == 0 ? text + length : NULL;
}

static const char *number(const char *text, int digits, uint64_t *value)
{
    return text ? hexadecimal(text, digits, value) : NULL;
}

static bool parse_comment(struct record *record, const char *comment, uint32_t *directory_crc)
{
    uint64_t value[5];
    const char *at = expect(comment, "mkllm/1 kit=");
    if (at)
        memcpy(record->kit, at, 16);
    at = expect(number(at, 16, &value[0]), " pkg=");
    at = expect(number(at, 8, &value[1]), " manifest=");
    for (int part = 0; part < 4; part++)
        at = number(at, 16, &value[2]);
    at = expect(at, " cd=");
    at = expect(number(at, 8, &value[3]), "\n");
    record->kit[16] = 0;
    record->pkg_crc = (uint32_t)value[1];
    *directory_crc = (uint32_t)value[3];
    return at == comment + COMMENT;
}

/* The size in a member's zip64 field; members have it always. */
static uint64_t size_of(const unsigned char *extra, size_t length)
{
    while (length >= 4) {
        size_t body = le16(extra + 2);
        if (le16(extra) == 1 && body >= 8 && length >= 12)
            return le64(extra + 4);
        if (body + 4 > length)
            break;
        extra += body + 4;
        length -= body + 4;
    }
    return 0;
}

/* What a member becomes: one that is compressed, at most that many times as much. */
static uint64_t unpacked_size(const unsigned char *name, size_t length, uint64_t size)
{
    return length > 3 && memcmp(name + length - 3, ".gz", 3) == 0 ? size * UNPACKED : size;
}

/* Every module but the CPU variants, of which the runtime takes one. */
static uint64_t native_size(const unsigned char *directory, size_t length)
{
    static const char native[] = "native/";
    uint64_t sum = 0, largest = 0;
    while (length >= CENTRAL && le32(directory) == 0x02014b50) {
        size_t name = le16(directory + 28), extra = le16(directory + 30);
        size_t whole = CENTRAL + name + extra + le16(directory + 32);
        if (whole > length)
            break;
        const unsigned char *text = directory + CENTRAL;
        uint64_t size = unpacked_size(text, name, size_of(text + name, extra));
        if (name > sizeof variant - 1 && memcmp(text, variant, sizeof variant - 1) == 0)
            largest = size > largest ? size : largest;
        else if (name > sizeof native - 1 && memcmp(text, native, sizeof native - 1) == 0)
            sum += size;
        directory += whole;
        length -= whole;
    }
    return sum + largest;
}

static void read_directory(struct record *record, const struct file *file, uint64_t length, uint32_t crc)
{
    unsigned char *directory = malloc(length ? length : 1);
    if (!directory || !file_read(file, record->pkg_end, directory, length))
        damaged(file, "its central directory cannot be read");
    if ((uint32_t)crc32(0, directory, (uInt)length) != crc)
        damaged(file, "its central directory has changed");
    record->native_size = native_size(directory, length);
    free(directory);
}

void record_read(struct record *record, const struct file *file)
{
    unsigned char tail[TAIL];
    uint32_t crc;
    if (file->size < TAIL || !file_read(file, file->size - TAIL, tail, TAIL))
        damaged(file, "its end is missing");
    const unsigned char *end64 = tail, *locator = end64 + END64, *end = locator + LOCATOR;
    if (le32(end) != 0x06054b50 || le16(end + 20) != COMMENT)
        damaged(file, "its end is missing");
    if (!parse_comment(record, (const char *)end + END, &crc))
        damaged(file, "its end record has changed");
    if (le32(end64) != 0x06064b50 || le32(locator) != 0x07064b50)
        damaged(file, "its zip64 record has changed");
    uint64_t length = le64(end64 + 40), offset = le64(end64 + 48);
    if (length > MOST_DIRECTORY || offset > file->size || length + TAIL != file->size - offset)
        damaged(file, "its zip64 record has changed");
    record->pkg_end = offset;
    read_directory(record, file, length, crc);
}
