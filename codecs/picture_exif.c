/* EXIF's orientation by libexif, which reads JPEG files and blocks that begin with Exif 0 0; a TIFF
 * is such a block itself, but longer than libexif reads. */
#include "codecs/picture_exif.h"

#include "codecs/png.h"

#include <ctype.h>
#include <libexif/exif-data.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t EXIF[6] = {'E', 'x', 'i', 'f', 0, 0};

static int read_orientation(const uint8_t *data, size_t size)
{
    int o = 1;
    ExifData *exif = exif_data_new_from_data(data, (unsigned)size);
    ExifEntry *e = exif ? exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION)
                        : NULL;
    if (e && e->format == EXIF_FORMAT_SHORT && e->components == 1 && e->size >= 2)
        o = exif_get_short(e->data, exif_data_get_byte_order(exif));
    if (exif) exif_data_unref(exif);
    return o >= 1 && o <= 8 ? o : 1;
}

/* Of a block that may begin with the TIFF header at once. */
static int read_exif_block(const uint8_t *block, size_t size)
{
    if (size >= sizeof EXIF && !memcmp(block, EXIF, sizeof EXIF))
        return read_orientation(block, size);
    uint8_t *whole = malloc(sizeof EXIF + size);
    if (!whole) return 1;
    memcpy(whole, EXIF, sizeof EXIF);
    memcpy(whole + sizeof EXIF, block, size);
    int o = read_orientation(whole, sizeof EXIF + size);
    free(whole);
    return o;
}

/* The contents of the first eXIf chunk, before or behind the picture; NULL: none. */
static const uint8_t *find_chunk(const uint8_t *data, size_t size, size_t *length)
{
    enum { SIGNATURE = 8, AROUND = 12 }; /* length and type before a chunk, its sum behind it */
    for (size_t at = SIGNATURE; size - at >= AROUND;) {
        const uint8_t *chunk = data + at;
        size_t n = (size_t)chunk[0] << 24 | (size_t)chunk[1] << 16 | (size_t)chunk[2] << 8 |
                   chunk[3];
        if (n > size - at - AROUND) break;
        if (!memcmp(chunk + 4, "eXIf", 4)) {
            *length = n;
            return chunk + 8;
        }
        at += n + AROUND;
    }
    return NULL;
}

static int digit_of(char c)
{
    static const char DIGITS[] = "0123456789abcdef";
    const char *at = c ? strchr(DIGITS, tolower((unsigned char)c)) : NULL;
    return at ? (int)(at - DIGITS) : -1;
}

/* A line with the kind, a line with the number of bytes, then the bytes in hexadecimal digits. */
static int read_profile(const char *path, const char *key)
{
    ts_err err;
    char *text = NULL;
    int o = 1;
    if (ts_png_read_text(&err, path, key, &text) || !text) return 1;
    uint8_t *block = malloc(strlen(text) / 2 + 1);
    size_t size = 0;
    const char *p = text + strspn(text, "\n");
    p += strcspn(p, "\n");
    p += strspn(p, "\n");
    p += strcspn(p, "\n");
    for (int high = -1; block && *p; p++) {
        int digit = digit_of(*p);
        if (digit < 0) continue;
        if (high < 0) {
            high = digit;
        } else {
            block[size++] = (uint8_t)(high << 4 | digit);
            high = -1;
        }
    }
    if (block) o = read_exif_block(block, size);
    free(block);
    free(text);
    return o;
}

/* The contents of the chunk EXIF of a WebP; NULL: none. */
static const uint8_t *find_webp_chunk(const uint8_t *data, size_t size, size_t *length)
{
    enum { HEADER = 12, BEFORE = 8 };
    for (size_t at = HEADER; at + BEFORE <= size;) {
        const uint8_t *chunk = data + at;
        size_t n = (size_t)chunk[7] << 24 | (size_t)chunk[6] << 16 | (size_t)chunk[5] << 8 |
                   chunk[4];
        if (n > size - at - BEFORE) break;
        if (!memcmp(chunk, "EXIF", 4)) {
            *length = n;
            return chunk + BEFORE;
        }
        at += BEFORE + n + (n & 1);
    }
    return NULL;
}

static size_t get_tiff(const uint8_t *at, int bytes, bool big)
{
    size_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (size_t)at[i] << 8 * (big ? bytes - 1 - i : i);
    return v;
}

/* Of the first directory of a TIFF. */
static int read_tiff(const uint8_t *data, size_t size)
{
    enum { ENTRY = 12, ORIENTATION = 0x112, SHORT = 3 };
    bool big = data[0] == 'M';
    size_t at = get_tiff(data + 4, 4, big);
    if (at > size || size - at < 2) return 1;
    size_t n = get_tiff(data + at, 2, big);
    for (at += 2; n-- && size - at >= ENTRY; at += ENTRY)
        if (get_tiff(data + at, 2, big) == ORIENTATION &&
            get_tiff(data + at + 2, 2, big) == SHORT) {
            size_t o = get_tiff(data + at + 8, 2, big);
            return o >= 1 && o <= 8 ? (int)o : 1;
        }
    return 1;
}

int ts_picture_orientation(const char *path, const uint8_t *data, size_t size)
{
    static const uint8_t PNG[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    if (size >= 4 && data[0] == 0xFF && data[1] == 0xD8) return read_orientation(data, size);
    size_t length;
    if (size >= 8 && (!memcmp(data, "II*\0", 4) || !memcmp(data, "MM\0*", 4)))
        return read_tiff(data, size);
    if (size >= 12 && !memcmp(data, "RIFF", 4) && !memcmp(data + 8, "WEBP", 4)) {
        const uint8_t *exif = find_webp_chunk(data, size, &length);
        return exif ? read_exif_block(exif, length) : 1;
    }
    if (size < sizeof PNG || memcmp(data, PNG, sizeof PNG)) return 1;
    const uint8_t *chunk = find_chunk(data, size, &length);
    if (chunk) return read_exif_block(chunk, length);
    int o = read_profile(path, "Raw profile type exif");
    return o != 1 ? o : read_profile(path, "Raw profile type APP1");
}
