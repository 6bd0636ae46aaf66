/* Names and shapes of AutoencoderKLWan's tensors, walked once for both kinds of file. */
#include "tests/codecs/vae_checkpoint.h"

#include "tests/golden.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    ts_bag *bag;
    FILE *header;
    long numbers;
} list; /* one of bag and header */

/* Dimensions as long, ended by 0L. */
static void put(list *l, const char *name, ...)
{
    long dim[5], n = 1;
    int nd = 0;
    va_list ap;
    va_start(ap, name);
    for (long d; (d = va_arg(ap, long)) != 0;) {
        dim[nd++] = d;
        n *= d;
    }
    va_end(ap);
    if (l->bag) {
        golden_weight(name, nd, dim, ts_bag_put(l->bag, name, TS_F32, nd, dim, NULL));
        return;
    }
    fprintf(l->header, "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [", l->numbers ? ", " : "{",
            name);
    for (int i = 0; i < nd; i++) fprintf(l->header, "%s%ld", i ? ", " : "", dim[i]);
    fprintf(l->header, "], \"data_offsets\": [%ld, %ld]}", 4 * l->numbers, 4 * (l->numbers + n));
    l->numbers += n;
}

static void add_conv(list *b, long o, long i, int kt, int k, bool flat, const char *name)
{
    char t[160];
    snprintf(t, sizeof t, "%s.weight", name);
    if (flat)
        put(b, t, o, i, (long)k, (long)k, 0L);
    else
        put(b, t, o, i, (long)kt, (long)k, (long)k, 0L);
    snprintf(t, sizeof t, "%s.bias", name);
    put(b, t, o, 0L);
}

static const char *cat(char *out, const char *a, const char *tail)
{
    snprintf(out, 160, "%s.%s", a, tail);
    return out;
}

static void add_res(list *b, long i, long o, const char *name)
{
    char t[160];
    put(b, cat(t, name, "norm1.gamma"), i, 1L, 1L, 1L, 0L);
    put(b, cat(t, name, "norm2.gamma"), o, 1L, 1L, 1L, 0L);
    add_conv(b, o, i, 3, 3, false, cat(t, name, "conv1"));
    add_conv(b, o, o, 3, 3, false, cat(t, name, "conv2"));
    if (i != o) add_conv(b, o, i, 1, 1, false, cat(t, name, "conv_shortcut"));
}

static void add_mid(list *b, long c, const char *half)
{
    char n[96], t[160];
    snprintf(n, sizeof n, "%s.mid_block", half);
    add_res(b, c, c, cat(t, n, "resnets.0"));
    add_res(b, c, c, cat(t, n, "resnets.1"));
    put(b, cat(t, n, "attentions.0.norm.gamma"), c, 1L, 1L, 0L);
    add_conv(b, 3 * c, c, 1, 1, true, cat(t, n, "attentions.0.to_qkv"));
    add_conv(b, c, c, 1, 1, true, cat(t, n, "attentions.0.proj"));
}

static void add_sample(list *b, long in, long out, bool time, long time_out, const char *name)
{
    char t[160];
    add_conv(b, out, in, 1, 3, true, cat(t, name, "resample.1"));
    if (!time) return;
    snprintf(t, sizeof t, "%s.time_conv.weight", name);
    put(b, t, time_out, in, 3L, 1L, 1L, 0L);
    put(b, cat(t, name, "time_conv.bias"), time_out, 0L);
}

static void add_all(list *b, const vae_shape *s)
{
    char n[96];
    int pixels = s->residual ? 12 : 3, flat = 0;
    long width = s->base;
    add_conv(b, width, pixels, 3, 3, false, "encoder.conv_in");
    for (int i = 0; i < s->levels; i++) {
        long out = (long)s->base * s->mult[i];
        for (int r = 0; r < s->res; r++, flat++) {
            if (s->residual)
                snprintf(n, sizeof n, "encoder.down_blocks.%d.resnets.%d", i, r);
            else
                snprintf(n, sizeof n, "encoder.down_blocks.%d", flat);
            add_res(b, r ? out : width, out, n);
        }
        if (i + 1 < s->levels) {
            if (s->residual)
                snprintf(n, sizeof n, "encoder.down_blocks.%d.downsampler", i);
            else
                snprintf(n, sizeof n, "encoder.down_blocks.%d", flat);
            add_sample(b, out, out, s->time[i], out, n);
            flat++;
        }
        width = out;
    }
    add_mid(b, width, "encoder");
    put(b, "encoder.norm_out.gamma", width, 1L, 1L, 1L, 0L);
    add_conv(b, 2 * s->z, width, 3, 3, false, "encoder.conv_out");
    add_conv(b, 2 * s->z, 2 * s->z, 1, 1, false, "quant_conv");
    add_conv(b, s->z, s->z, 1, 1, false, "post_quant_conv");
    width = (long)s->dec * s->mult[s->levels - 1];
    add_conv(b, width, s->z, 3, 3, false, "decoder.conv_in");
    add_mid(b, width, "decoder");
    for (int i = 0; i < s->levels; i++) {
        long out = (long)s->dec * s->mult[s->levels - 1 - i],
             in = i && !s->residual ? width / 2 : width;
        for (int r = 0; r <= s->res; r++) {
            snprintf(n, sizeof n, "decoder.up_blocks.%d.resnets.%d", i, r);
            add_res(b, r ? out : in, out, n);
        }
        snprintf(n, sizeof n,
                 s->residual ? "decoder.up_blocks.%d.upsampler"
                             : "decoder.up_blocks.%d.upsamplers.0",
                 i);
        if (i + 1 < s->levels)
            add_sample(b, out, s->residual ? out : out / 2, s->time[s->levels - 2 - i], 2 * out, n);
        width = out;
    }
    put(b, "decoder.norm_out.gamma", width, 1L, 1L, 1L, 0L);
    add_conv(b, pixels, width, 3, 3, false, "decoder.conv_out");
}

ts_bag *vae_checkpoint(const vae_shape *s)
{
    list l = {.bag = ts_bag_new()};
    add_all(&l, s);
    return l.bag;
}

long vae_hollow(const vae_shape *s, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    list l = {.header = open_memstream(&text, &size)};
    add_all(&l, s);
    fputc('}', l.header);
    fclose(l.header);
    FILE *f = fopen(path, "wb");
    ck_assert(f && fwrite(&(uint64_t){size}, 8, 1, f) == 1 && fwrite(text, size, 1, f) == 1 &&
              fflush(f) == 0);
    ck_assert(ftruncate(fileno(f), (off_t)(8 + size) + 4 * l.numbers) == 0);
    fclose(f);
    free(text);
    return l.numbers;
}
