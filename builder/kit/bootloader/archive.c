/* PyInstaller's archive: its table of contents, its checksum, and the data of what becomes files. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "archive.h"
#include "zlib.h"

enum { COOKIE = 88, ENTRY = 18, BLOCK = 128 << 10 };

static _Noreturn void damaged(const char *what)
{
    fail(EXIT_DAMAGED, "this file is damaged (%s): copy it again", what);
}

static uint32_t be32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static bool is_file(char type)
{
    return type == 'b' || type == 'x' || type == 'Z' || type == 'n';
}

static bool is_safe(const char *name)
{
    return *name && *name != '/' && strcmp(name, "..") != 0 && strncmp(name, "../", 3) != 0 && !strstr(name, "/../");
}

static const char *value_of(const char *option, const char *name)
{
    size_t length = strlen(name);
    return strncmp(option, name, length) == 0 ? option + length : NULL;
}

/* Options that begin with `pyi-` are passed over by PyInstaller's own code; these are for the entry. */
static void read_option(struct archive *archive, const char *option)
{
    const char *glibc = value_of(option, "pyi-mkllm-glibc "), *library = value_of(option, "pyi-mkllm-preload ");
    if (glibc)
        snprintf(archive->glibc, sizeof archive->glibc, "%s", glibc);
    if (library && archive->libraries < sizeof archive->library / sizeof *archive->library)
        archive->library[archive->libraries++] = library;
}

static void add_item(struct archive *archive, const unsigned char *entry)
{
    struct item *item = &archive->items[archive->count++];
    item->name = (const char *)entry + ENTRY;
    item->offset = archive->begin + be32(entry + 4);
    item->stored = be32(entry + 8);
    item->size = be32(entry + 12);
    item->deflated = entry[16] != 0;
    item->type = (char)entry[17];
    uint64_t end = item->offset + item->stored;
    if (end > archive->end || !is_safe(item->name) || (!item->deflated && item->stored != item->size))
        damaged("the table of its Python runtime makes no sense");
    archive->size += item->size;
    archive->files_begin = item->offset < archive->files_begin ? item->offset : archive->files_begin;
    archive->files_end = end > archive->files_end ? end : archive->files_end;
}

static void read_table(struct archive *archive, const unsigned char *table, size_t length)
{
    archive->items = calloc(length / 32 + 1, sizeof *archive->items); /* an entry is a multiple of 16, above 16 */
    archive->files_begin = archive->end;
    archive->files_end = archive->begin;
    while (archive->items && length) {
        uint32_t whole = length > ENTRY ? be32(table) : 0;
        if (whole < 32 || whole > length || table[whole - 1] != 0)
            damaged("the table of its Python runtime makes no sense");
        if (table[17] == 'o')
            read_option(archive, (const char *)table + ENTRY);
        else if (is_file((char)table[17]))
            add_item(archive, table);
        table += whole;
        length -= whole;
    }
    if (!archive->count)
        damaged("there is no Python runtime in it");
}

/* Each letter is one more than it should be, and volatile, or the compiler would undo that: PyInstaller would find the true ones
 * here when it looks for its archive. */
static bool is_magic(const unsigned char *cookie)
{
    static const volatile unsigned char more[] = {'N', 'F', 'J', 015, 014, 013, 014, 017};
    for (size_t i = 0; i < sizeof more; i++)
        if (cookie[i] + 1 != more[i])
            return false;
    return true;
}

void archive_open(struct archive *archive, const struct file *file, const struct record *record)
{
    unsigned char cookie[COOKIE];
    *archive = (struct archive){.file = file, .end = record->pkg_end, .crc = record->pkg_crc};
    if (archive->end < COOKIE || !file_read(file, archive->end - COOKIE, cookie, COOKIE))
        damaged("its Python runtime is missing");
    uint32_t length = be32(cookie + 8), table = be32(cookie + 12), table_length = be32(cookie + 16);
    if (!is_magic(cookie) || length > archive->end || length < COOKIE ||
        table > length - COOKIE || table_length > length - COOKIE - table)
        damaged("its Python runtime is missing");
    archive->begin = archive->end - length;
    unsigned char *names = malloc(table_length + 1); /* kept: items point into it */
    if (!names || !file_read(file, archive->begin + table, names, table_length))
        damaged("the table of its Python runtime cannot be read");
    read_table(archive, names, table_length);
}

static uint32_t checksum(const struct archive *archive, uint64_t from, uint64_t to)
{
    static unsigned char block[BLOCK];
    uLong crc = crc32(0, NULL, 0);
    while (from < to) {
        size_t length = to - from < BLOCK ? (size_t)(to - from) : BLOCK;
        if (!file_read(archive->file, from, block, length))
            damaged("its Python runtime cannot be read");
        crc = crc32(crc, block, (uInt)length);
        from += length;
    }
    return (uint32_t)crc;
}

/* Checks the whole archive against the promise and returns the checksum of its files' part. Given that checksum, of files
 * extracted earlier, it reads only the rest: what is used from the archive itself at this launch. */
uint32_t archive_check(const struct archive *archive, const uint32_t *files_crc)
{
    uint32_t files = files_crc ? *files_crc : checksum(archive, archive->files_begin, archive->files_end);
    uLong crc = checksum(archive, archive->begin, archive->files_begin);
    crc = crc32_combine(crc, files, (z_off_t)(archive->files_end - archive->files_begin));
    uint32_t rest = checksum(archive, archive->files_end, archive->end);
    crc = crc32_combine(crc, rest, (z_off_t)(archive->end - archive->files_end));
    if ((uint32_t)crc != archive->crc)
        damaged("its Python runtime has changed");
    return files;
}

static int put(int target, const unsigned char *data, size_t length)
{
    while (length) {
        ssize_t written = write(target, data, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return written ? errno : ENOSPC;
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int copy(const struct archive *archive, const struct item *item, int target)
{
    static unsigned char block[BLOCK];
    int error = 0;
    for (uint32_t done = 0; done < item->size && !error;) {
        size_t length = item->size - done < BLOCK ? item->size - done : BLOCK;
        if (!file_read(archive->file, item->offset + done, block, length))
            return EIO;
        error = put(target, block, length);
        done += (uint32_t)length;
    }
    return error;
}

static int inflate_all(z_stream *stream, const struct archive *archive, const struct item *item, int target)
{
    static unsigned char in[BLOCK], out[BLOCK];
    uint32_t taken = 0;
    int status = Z_OK;
    while (status == Z_OK) {
        if (!stream->avail_in && taken < item->stored) {
            size_t length = item->stored - taken < BLOCK ? item->stored - taken : BLOCK;
            if (!file_read(archive->file, item->offset + taken, in, length))
                return EIO;
            stream->next_in = in;
            stream->avail_in = (uInt)length;
            taken += (uint32_t)length;
        }
        stream->next_out = out;
        stream->avail_out = BLOCK;
        status = inflate(stream, Z_NO_FLUSH);
        int error = put(target, out, BLOCK - stream->avail_out);
        if (error)
            return error;
    }
    return status == Z_STREAM_END && stream->total_out == item->size ? 0 : EIO;
}

/* Writes the item's data; 0, or an error number. */
int archive_extract(const struct archive *archive, const struct item *item, int target)
{
    z_stream stream = {0};
    if (!item->deflated)
        return copy(archive, item, target);
    if (inflateInit(&stream) != Z_OK)
        return ENOMEM;
    int error = inflate_all(&stream, archive, item, target);
    inflateEnd(&stream);
    return error;
}
