/* The container as weights/gguf.c describes it, version 3, alignment 32. */
#include "tests/weights/gguf_writer.h"

#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32 };

typedef struct {
    char *bytes;
    size_t n;
    FILE *f;
} section;
struct gguf_writer {
    section keys, tensors, data;
    uint64_t n_keys, n_tensors;
};

static void put(section *s, const void *p, size_t n) { ck_assert(fwrite(p, 1, n, s->f) == n); }
static void put_u32(section *s, uint32_t v) { put(s, &v, sizeof v); }
static void put_u64(section *s, uint64_t v) { put(s, &v, sizeof v); }
static void put_text(section *s, const char *text)
{
    put_u64(s, strlen(text));
    put(s, text, strlen(text));
}
static void align(section *s)
{
    while (ftell(s->f) % ALIGNMENT) put(s, "", 1);
}

gguf_writer *gguf_begin(void)
{
    gguf_writer *w = calloc(1, sizeof *w);
    ck_assert(w != NULL);
    section *all[] = {&w->keys, &w->tensors, &w->data};
    for (int i = 0; i < 3; i++) ck_assert((all[i]->f = open_memstream(&all[i]->bytes, &all[i]->n)));
    return w;
}

static section *begin_key(gguf_writer *w, const char *key, uint32_t type)
{
    w->n_keys++;
    put_text(&w->keys, key);
    put_u32(&w->keys, type);
    return &w->keys;
}

void gguf_text(gguf_writer *w, const char *key, const char *value)
{
    put_text(begin_key(w, key, 8), value);
}
void gguf_u32(gguf_writer *w, const char *key, uint32_t value)
{
    put_u32(begin_key(w, key, 4), value);
}
void gguf_f32(gguf_writer *w, const char *key, float value)
{
    put(begin_key(w, key, 6), &value, sizeof value);
}
void gguf_bool(gguf_writer *w, const char *key, int value)
{
    put(begin_key(w, key, 7), value ? "\1" : "\0", 1);
}

static section *begin_array(gguf_writer *w, const char *key, uint32_t type, uint64_t n)
{
    section *s = begin_key(w, key, 9);
    put_u32(s, type);
    put_u64(s, n);
    return s;
}

void gguf_texts(gguf_writer *w, const char *key, const char *const *value, uint64_t n)
{
    section *s = begin_array(w, key, 8, n);
    for (uint64_t i = 0; i < n; i++) put_text(s, value[i]);
}
void gguf_i32s(gguf_writer *w, const char *key, const int32_t *value, uint64_t n)
{
    put(begin_array(w, key, 5, n), value, n * sizeof *value);
}

static void put_tensor(gguf_writer *w, const char *name, int nd, const long *dim, uint32_t type,
                       const void *bytes, size_t n)
{
    align(&w->data);
    w->n_tensors++;
    put_text(&w->tensors, name);
    put_u32(&w->tensors, (uint32_t)nd);
    for (int d = nd - 1; d >= 0; d--) put_u64(&w->tensors, (uint64_t)dim[d]);
    put_u32(&w->tensors, type);
    put_u64(&w->tensors, (uint64_t)ftell(w->data.f));
    put(&w->data, bytes, n);
}

void gguf_tensor(gguf_writer *w, const char *name, int nd, const long *dim, const float *value)
{
    size_t n = 1;
    for (int d = 0; d < nd; d++) n *= (size_t)dim[d];
    put_tensor(w, name, nd, dim, 0, value, n * sizeof *value);
}
void gguf_q8_0(gguf_writer *w, const char *name, long rows, long width, const void *blocks)
{
    put_tensor(w, name, 2, (long[]){rows, width}, 8, blocks, (size_t)(rows * width / 32 * 34));
}

void gguf_end(gguf_writer *w, const char *path)
{
    section *all[] = {&w->keys, &w->tensors, &w->data}, out = {.f = fopen(path, "wb")};
    ck_assert(out.f != NULL);
    put(&out, "GGUF", 4);
    put_u32(&out, 3);
    put_u64(&out, w->n_tensors);
    put_u64(&out, w->n_keys);
    for (int i = 0; i < 3; i++) {
        fclose(all[i]->f);
        if (i == 2) align(&out);
        put(&out, all[i]->bytes, all[i]->n);
        free(all[i]->bytes);
    }
    ck_assert(fclose(out.f) == 0);
    free(w);
}
