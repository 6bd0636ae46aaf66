/* GIF comments (GIF89a, 24): 0x21 0xFE, sub-blocks of a length byte and that many bytes, a length
 * of 0; here just before the trailer 0x3B. Pictures are skipped by the same sub-blocks. */
#include "codecs/movie_gif.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    EXTENSION = 0x21,
    IMAGE = 0x2c,
    TRAILER = 0x3b,
    COMMENT = 0xfe,
    SUB_BLOCK = 255,
    MAX_COMMENT = 64 << 20
};

ts_status ts_gif_write_comment(ts_err *err, const char *name, const char *path, const char *text)
{
    ts_status st = TS_OK;
    FILE *f = fopen(path, "r+be");
    if (!f || fseek(f, -1, SEEK_END) != 0)
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno)));
    int last = fgetc(f);
    if (last != TRAILER)
        TRY(ts_fail(err, TS_EDEVICE, "%s: the GIF ends in byte %d, expected %d", name, last,
                    TRAILER));
    if (fseek(f, -1, SEEK_END) != 0)
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno)));
    fputc(EXTENSION, f);
    fputc(COMMENT, f);
    for (size_t n = strlen(text); n;) {
        size_t part = n < SUB_BLOCK ? n : SUB_BLOCK;
        fputc((int)part, f);
        fwrite(text, 1, part, f);
        text += part;
        n -= part;
    }
    fputc(0, f);
    fputc(TRAILER, f);
    if (fflush(f) != 0 || ferror(f))
        TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno)));
done:
    if (f && fclose(f) != 0 && st == TS_OK)
        st = ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno));
    return st;
}

/* Sub-blocks up to the empty one; their bytes are added to *text (NULL: skipped). false: the file
 * ends in between, or there is no memory. */
static bool read_blocks(FILE *f, char **text)
{
    size_t n = 0;
    for (int part; (part = fgetc(f)) != 0;) {
        uint8_t block[SUB_BLOCK];
        if (part == EOF || fread(block, 1, (size_t)part, f) != (size_t)part) return false;
        if (!text) continue;
        char *longer = n + part <= MAX_COMMENT ? realloc(*text, n + part + 1) : NULL;
        if (!longer) return false;
        memcpy(longer + n, block, (size_t)part);
        n += (size_t)part;
        longer[n] = 0;
        *text = longer;
    }
    return true;
}

static bool skip_colours(FILE *f, int flags)
{
    return !(flags & 0x80) || fseek(f, 3L << ((flags & 7) + 1), SEEK_CUR) == 0;
}

static bool read_file(FILE *f, char **text)
{
    uint8_t head[13], image[9];
    if (fread(head, 1, sizeof head, f) != sizeof head || memcmp(head, "GIF8", 4) ||
        !skip_colours(f, head[10]))
        return false;
    for (int block; (block = fgetc(f)) != TRAILER;) {
        if (block == EXTENSION) {
            bool comment = fgetc(f) == COMMENT;
            if (comment) {
                free(*text);
                *text = NULL;
            }
            if (!read_blocks(f, comment ? text : NULL)) return false;
        } else if (block == IMAGE) {
            if (fread(image, 1, sizeof image, f) != sizeof image || !skip_colours(f, image[8]) ||
                fgetc(f) == EOF || !read_blocks(f, NULL))
                return false;
        } else {
            return false;
        }
    }
    return true;
}

ts_status ts_gif_read_comment(ts_err *err, const char *path, char **text)
{
    ts_status st = TS_OK;
    *text = NULL;
    FILE *f = fopen(path, "rbe");
    if (!f) return ts_fail(err, TS_EMODEL, "%s: can not be read: %s", path, strerror(errno));
    if (!read_file(f, text)) {
        free(*text);
        *text = NULL;
        st = ts_fail(err, TS_EMODEL, "%s: is not a whole GIF", path);
    }
    fclose(f);
    return st;
}
