/* What the classes of sources have in common, and which class opens a file. */
#include "weights/source.h"

#include "backend/half.h"
#include "backend/suffix.h"
#include "weights/file.h"
#include "weights/gguf.h"
#include "weights/safetensors.h"

#include <assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void ts_widen(ts_dtype type, const void *from, size_t n, float *to)
{
    if (type == TS_F32) {
        memcpy(to, from, n * sizeof *to);
        return;
    }
    if (type != TS_BF16 && type != TS_F16) abort();
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)from + 2 * i, sizeof h);
        if (type == TS_F16) {
            to[i] = ts_from_f16(h);
        } else {
            uint32_t bits = (uint32_t)h << 16;
            memcpy(to + i, &bits, sizeof bits);
        }
    }
}

const char *ts_shape_text(int nd, const long *dim, char buf[96])
{
    size_t n = 0;
    buf[n++] = '[';
    for (int i = 0; i < nd; i++) {
        const char *comma = i ? ", " : "";
        int k = dim[i] < 0 ? snprintf(buf + n, 96 - n, "%sany", comma)
                           : snprintf(buf + n, 96 - n, "%s%ld", comma, dim[i]);
        if (k < 0 || n + (size_t)k > 93) break;
        n += (size_t)k;
    }
    buf[n++] = ']';
    buf[n] = 0;
    return buf;
}

/* Up to n bytes that a file begins with; of what can not be read none: opening it says why. */
static size_t read_beginning(const char *path, char *to, size_t n)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = fd < 0 ? -1 : pread(fd, to, n, 0);
    if (fd >= 0) close(fd);
    return got < 0 ? 0 : (size_t)got;
}

static bool begins_with(const char *bytes, size_t n, const char *with)
{
    size_t k = strlen(with);
    return n >= k && !memcmp(bytes, with, k);
}

/* Kinds that people have where a model should be; what is none of them is a damaged safetensors
 * file, if anything, and its class has the sentence. */
static ts_status refuse_known_kind(ts_err *err, const char *path, const char *bytes, size_t n)
{
    if (begins_with(bytes, n, "PK\x03\x04"))
        return ts_fail(err, TS_EMODEL,
                       "%s: a PyTorch file (.pth, .pt, .bin, .ckpt), which can run code when it is "
                       "read and is not supported: take the model's .safetensors or .gguf file",
                       path);
    if (begins_with(bytes, n, "<!DOCTYPE") || begins_with(bytes, n, "<!doctype") ||
        begins_with(bytes, n, "<html"))
        return ts_fail(err, TS_EMODEL,
                       "%s: a web page, no model: the download went wrong, run it again", path);
    if (ts_ends_with(path, ".gguf") && n >= 8)
        return ts_fail(err, TS_EMODEL,
                       "%s: does not begin with the four letters GGUF: no GGUF file, or damaged",
                       path);
    return TS_OK;
}

ts_status ts_source_open(ts_err *err, const char *path, ts_source *out)
{
    char begin[64];
    size_t n = read_beginning(path, begin, sizeof begin);
    memset(out, 0, sizeof *out);
    if (begins_with(begin, n, "GGUF")) return ts_source_gguf.open(err, path, out);
    /* safetensors under another name is read */
    bool json = n > 8 && begin[8] == '{';
    ts_status st = json ? TS_OK : ts_file_refuse_pointer(err, path, begin, n);
    if (!st && !json) st = refuse_known_kind(err, path, begin, n);
    return st ? st : ts_source_safetensors.open(err, path, out);
}

void ts_source_close(ts_source *s)
{
    if (s->class) s->class->close(s);
    memset(s, 0, sizeof *s);
}

const ts_entry *ts_source_find(const ts_source *s, const char *name)
{
    int low = 0, high = s->entries - 1;
    while (low <= high) {
        int mid = (low + high) / 2, order = strcmp(s->entry[mid].name, name);
        if (order == 0) return s->entry + mid;
        if (order < 0)
            low = mid + 1;
        else
            high = mid - 1;
    }
    return NULL;
}

const char *ts_source_meta(const ts_source *s, const char *key)
{
    return s->class->meta ? s->class->meta(s, key) : NULL;
}

long ts_entry_rows(const ts_entry *e) { return e->t.nd < 2 ? 1 : e->t.dim[0]; }

long ts_entry_width(const ts_entry *e)
{
    long n = 1;
    for (int i = e->t.nd < 2 ? 0 : 1; i < e->t.nd; i++) n *= e->t.dim[i];
    return n;
}

long ts_entry_count(const ts_entry *e) { return ts_entry_rows(e) * ts_entry_width(e); }

ts_status ts_source_read_mapped(ts_err *err, const ts_source *s, const ts_entry *e, long first,
                                long rows, float *out)
{
    (void)err;
    (void)s;
    assert(e->t.data && first >= 0 && rows >= 0 && first + rows <= ts_entry_rows(e));
    size_t width = (size_t)ts_entry_width(e), before = (size_t)first * width;
    ts_widen(e->t.type, (const char *)e->t.data + before * ts_dtype_size(e->t.type),
             (size_t)rows * width, out);
    return TS_OK;
}
