#include "tests/prompts/models.h"

#include "tests/testing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t models_decode64(const char *s, uint8_t *out)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    uint32_t bits = 0;
    int have = 0;
    for (; *s && *s != '='; s++) {
        bits = bits << 6 | (uint32_t)(strchr(digits, *s) - digits);
        have += 6;
        if (have >= 8) out[n++] = (uint8_t)(bits >> (have -= 8));
    }
    return n;
}

void models_write(const char *dir, const char *name, const void *data, size_t n)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(data, 1, n, f) == n);
    fclose(f);
}

uint8_t *models_read(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f && !fseek(f, 0, SEEK_END), "%s", path);
    *n = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = malloc(*n + 1);
    ck_assert(fread(data, 1, *n, f) == *n);
    data[*n] = 0;
    fclose(f);
    return data;
}

/* ---- protobuf's wire format ---- */
typedef struct {
    uint8_t data[16384];
    size_t n;
} wire;

static void byte(wire *w, int b)
{
    ck_assert(w->n < sizeof w->data);
    w->data[w->n++] = (uint8_t)b;
}

static void varint(wire *w, uint64_t v)
{
    for (; v > 127; v >>= 7) byte(w, (int)(v & 127) | 128);
    byte(w, (int)v);
}

static void bytes(wire *w, int field, const void *data, size_t n)
{
    varint(w, (uint64_t)field << 3 | 2);
    varint(w, n);
    for (size_t i = 0; i < n; i++) byte(w, ((const uint8_t *)data)[i]);
}

static void number(wire *w, int field, int64_t v)
{
    varint(w, (uint64_t)field << 3);
    varint(w, (uint64_t)v);
}

static void put_piece(wire *w, const char *s, float score, int type)
{
    wire p = {.n = 0};
    uint8_t four[4];
    memcpy(four, &score, 4);
    bytes(&p, 1, s, strlen(s));
    varint(&p, 2 << 3 | 5);
    for (int i = 0; i < 4; i++) byte(&p, four[i]);
    if (type != 1) number(&p, 3, type);
    bytes(w, 1, p.data, p.n);
}

static void put_fields(wire *w, int field, const models_field *f)
{
    wire part = {.n = 0};
    for (; f && f->field; f++) number(&part, f->field, f->value);
    bytes(w, field, part.data, part.n);
}

void models_write_spiece(const char *dir, const models_spiece *m)
{
    wire *w = calloc(1, sizeof *w);
    char name[8];
    for (int i = 0; i < m->pieces; i++)
        put_piece(w, m->piece[i].s, m->piece[i].score, m->piece[i].type ? m->piece[i].type : 1);
    for (int b = 0; m->bytes && b < 256; b++) {
        snprintf(name, sizeof name, "<0x%02X>", b);
        put_piece(w, name, 0, 6);
    }
    put_fields(w, 2, m->trainer);
    put_fields(w, 3, m->normalizer);
    models_write(dir, "spiece.model", w->data, w->n);
    free(w);
}

void models_expect(ts_ctx *c, ts_tokenizer *t, const char *text, const int *want, int n)
{
    int32_t *ids;
    int got;
    bool cut;
    ck_ok(c, ts_tokenize(t, text, 512, &ids, &got, &cut));
    for (int i = 0; i < got && i < n; i++)
        ck_assert_msg(ids[i] == want[i], "\"%s\": id %d is %d (%s), expected %d", text, i, ids[i],
                      ts_token_piece(t, ids[i]), want[i]);
    ck_assert_msg(got == n && !cut, "\"%s\": %d ids, expected %d", text, got, n);
    free(ids);
}
