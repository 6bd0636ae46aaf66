/* safetensors as a source of weights: numbers of 8 bits, and the scales beside them.
 *
 *   X.weight          F8_E4M3 or F8_E5M2 [out, ...]
 *   X.scale_weight    or X.weight_scale: F32, BF16 or F16; one number, [out] or [out, 1], or
 *                     [out, n] or [out, n, 1] for n equal parts of each row
 *   X.scale_input, X.input_scale        of activations, for products in fp8: no use here
 *   X.comfy_quant     U8, JSON {"format": "float8_e4m3fn"}; the metadata may have as much:
 *                     "_quantization_metadata": {"layers": {"X": {"format": ..}}}
 *   scaled_fp8        says that weights are scaled
 *
 * The weight is its numbers times its scale, rounded once. What counts is the type of a tensor and
 * which scales are there, whatever marks say; marks are asked only for what can not be read:
 * another format, rotated weights. A scale beside any other type is not looked at. Scales and marks
 * are read with the rows that they belong to, not when the file is opened. */
#include "backend/blocks.h"
#include "backend/suffix.h"
#include "weights/safetensors.h"

#include <assert.h>
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NAME_ROOM = 1024 };

/* How the numbers of an entry are stored. */
typedef struct {
    bool is_fp8;
    ts_fp8 type;
    const ts_entry *scale; /* NULL: none */
    const ts_entry *mark;  /* X.comfy_quant; NULL: none */
    long parts;            /* scales of a row; 0: one for all rows */
} stored_form;
typedef struct {
    ts_safetensors file;
    ts_entry *entry; /* those of the file that are no scale or mark; it owns their texts */
    stored_form *form;
    int entries;
    char *warning;
} fp8_file;

static const char WEIGHT[] = ".weight", MARK[] = "scaled_fp8";

/* ---- what stands beside a weight ---- */

/* The entry NAME without `end`, with `other` for it; NULL: not there. */
static ts_entry *find_beside(const fp8_file *f, const char *name, const char *end,
                             const char *other)
{
    char beside[NAME_ROOM];
    size_t n = strlen(name), k = strlen(end);
    if (!ts_ends_with(name, end) || n - k + strlen(other) >= sizeof beside) return NULL;
    snprintf(beside, sizeof beside, "%.*s%s", (int)(n - k), name, other);
    return (ts_entry *)(uintptr_t)ts_safetensors_find(&f->file, beside);
}

/* A part of some weight, or a mark of the file. */
static bool is_companion(const fp8_file *f, const char *name)
{
    static const char *const ends[] = {".scale_weight", ".weight_scale", ".weight_scale_2",
                                       ".scale_input",  ".input_scale",  ".comfy_quant"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (find_beside(f, name, ends[i], WEIGHT)) return true;
    size_t n = strlen(name), k = sizeof MARK - 1;
    return ts_ends_with(name, MARK) && (n == k || name[n - k - 1] == '.');
}

static const ts_entry *find_scale(const fp8_file *f, const char *name)
{
    const ts_entry *e = find_beside(f, name, WEIGHT, ".weight_scale");
    return e ? e : find_beside(f, name, WEIGHT, ".scale_weight");
}

static bool is_marked(const ts_safetensors *s)
{
    for (int i = 0; i < s->entries; i++)
        if (ts_ends_with(s->entry[i].name, MARK)) return true;
    return false;
}

/* ---- what can not be read ---- */

static ts_status refuse_header_memory(ts_err *err, const fp8_file *f)
{
    return ts_fail(err, TS_EMEMORY, "%s: out of memory for the header", f->file.path);
}

/* The entry can not be used, for this reason; taken, NULL: no memory. */
static ts_status set_odd(ts_err *err, const fp8_file *f, ts_entry *e, char *odd)
{
    if (!odd) return refuse_header_memory(err, f);
    free(e->odd);
    e->odd = odd;
    e->t.nd = 0;
    return TS_OK;
}

static char *format_odd(const char *format, const char *text)
{
    char *s = NULL;
    return asprintf(&s, format, text) < 0 ? NULL : s;
}

/* What is wrong with a format that a mark gives; malloc'd. NULL: nothing for numbers of 8 bits as
 * they are read here, or it is none, or no memory. convrot: the weight is rotated */
static char *judge_format(const cJSON *j, bool is_fp8)
{
    const char *s = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(j, "format"));
    bool turned = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(j, "convrot"));
    if (is_fp8 && !turned && (!s || !strncmp(s, "float8_", 7))) return NULL;
    if (!s && !turned) return NULL;
    return format_odd(turned ? "format %.60s with convrot" : "format %.60s", s ? s : "unknown");
}

/* What the metadata has on a weight; NULL: nothing. Names may lack the prefix of tensors. */
static const cJSON *find_layer_mark(const cJSON *layers, const char *name)
{
    const cJSON *layer;
    size_t own = strlen(name) - (sizeof WEIGHT - 1);
    cJSON_ArrayForEach(layer, layers)
    {
        size_t n = layer->string ? strlen(layer->string) : 0, before = own - n;
        if (n == 0 || n > own || memcmp(name + before, layer->string, n)) continue;
        if (before == 0 || name[before - 1] == '.') return layer;
    }
    return NULL;
}

static char *judge_mark(const ts_entry *mark, bool is_fp8)
{
    if (!mark || mark->odd || mark->t.type != TS_U8) return NULL;
    cJSON *j = cJSON_ParseWithLength(mark->at, mark->bytes);
    char *odd = judge_format(j, is_fp8);
    cJSON_Delete(j);
    return odd;
}

/* Of what is neither fp8 nor a plain number of a weight: what its marks call it. */
static ts_status name_format(ts_err *err, const fp8_file *f, ts_entry *e, const cJSON *layers)
{
    char *odd = judge_mark(find_beside(f, e->name, WEIGHT, ".comfy_quant"), false);
    if (!odd) odd = judge_format(find_layer_mark(layers, e->name), false);
    if (!odd && !find_scale(f, e->name)) return TS_OK;
    return set_odd(err, f, e, odd ? odd : format_odd("%s with a scale", e->storage));
}

/* Formats that keep a weight under other names. */
static ts_status refuse_packed(ts_err *err, const fp8_file *f)
{
    for (int i = 0; i < f->file.entries; i++)
        if (ts_ends_with(f->file.entry[i].name, ".qweight"))
            return ts_fail(err, TS_EMODEL,
                           "%s: tensor \"%s\": packed weights of GPTQ, AWQ or SVDQuant (Nunchaku) "
                           "are not supported",
                           f->file.path, f->file.entry[i].name);
    return TS_OK;
}

/* ---- opening ---- */

/* Fits the scale to e; false: it does not. */
static bool fit_scale(const ts_entry *e, const ts_entry *scale, long *parts)
{
    if (scale->odd ||
        (scale->t.type != TS_F32 && scale->t.type != TS_BF16 && scale->t.type != TS_F16))
        return false;
    long n = ts_entry_count(scale), rows = e->t.nd ? e->t.dim[0] : 1, numbers = ts_entry_count(e);
    *parts = 0;
    if (n == 1) return true;
    if (n == 0 || numbers == 0 || scale->t.dim[0] != rows) return false;
    *parts = n / rows;
    return numbers / rows % *parts == 0;
}

static ts_status take_fp8(ts_err *err, const fp8_file *f, ts_entry *e, const cJSON *layers,
                          stored_form *form)
{
    char got[96], want[96];
    char *format = ts_ends_with(e->name, WEIGHT)
                       ? judge_format(find_layer_mark(layers, e->name), true)
                       : NULL;
    *form = (stored_form){.is_fp8 = true,
                          .type = strcmp(e->storage, TS_STORED_E4M3) ? TS_E5M2 : TS_E4M3,
                          .scale = find_scale(f, e->name),
                          .mark = find_beside(f, e->name, WEIGHT, ".comfy_quant")};
    if (format) return set_odd(err, f, e, format);
    if (form->scale && !fit_scale(e, form->scale, &form->parts)) {
        char *odd = NULL;
        const ts_entry *s = form->scale;
        if (asprintf(&odd, "a scale of %s %s for %s", s->odd ? s->odd : s->storage,
                     ts_shape_text(s->t.nd, s->t.dim, got),
                     ts_shape_text(e->t.nd, e->t.dim, want)) < 0)
            odd = NULL;
        return set_odd(err, f, e, odd);
    }
    free(e->odd);
    e->odd = NULL;
    e->t.data = NULL;
    e->t.type = TS_F32;
    return TS_OK;
}

static bool is_stored_as_fp8(const ts_entry *e)
{
    return e->odd && e->t.nd <= 5 &&
           (!strcmp(e->storage, TS_STORED_E4M3) || !strcmp(e->storage, TS_STORED_E5M2));
}

static ts_status warn_of_missing_scales(ts_err *err, fp8_file *f)
{
    const char *first = NULL;
    int n = 0;
    for (int i = 0; i < f->entries; i++) {
        const ts_entry *e = f->entry + i;
        if (!f->form[i].is_fp8 || f->form[i].scale || !ts_ends_with(e->name, WEIGHT)) continue;
        if (n++ == 0) first = e->name;
    }
    if (n == 0 || !is_marked(&f->file)) return TS_OK;
    if (asprintf(&f->warning,
                 "%s: says that its fp8 weights are scaled, but there is no scale for %d of them, "
                 "such as "
                 "\"%s\": taken as they are",
                 f->file.path, n, first) < 0) {
        f->warning = NULL;
        return refuse_header_memory(err, f);
    }
    return TS_OK;
}

static ts_status list_weights(ts_err *err, fp8_file *f, const cJSON *layers)
{
    ts_status st = TS_OK;
    size_t n = (size_t)f->file.entries + 1;
    f->entry = malloc(n * sizeof *f->entry);
    f->form = calloc(n, sizeof *f->form);
    if (!f->entry || !f->form) return refuse_header_memory(err, f);
    TRY(refuse_packed(err, f));
    for (int i = 0; i < f->file.entries; i++) {
        ts_entry *e = f->file.entry + i;
        if (is_companion(f, e->name)) continue;
        if (is_stored_as_fp8(e))
            TRY(take_fp8(err, f, e, layers, f->form + f->entries));
        else if (ts_ends_with(e->name, WEIGHT) && (e->odd || e->t.type == TS_U8))
            TRY(name_format(err, f, e, layers));
        f->entry[f->entries++] = *e;
    }
    TRY(warn_of_missing_scales(err, f));
done:
    return st;
}

static void free_fp8(fp8_file *f)
{
    ts_safetensors_close(&f->file);
    free(f->entry);
    free(f->form);
    free(f->warning);
    free(f);
}

static ts_status open_fp8(ts_err *err, const char *path, ts_source *out)
{
    ts_status st;
    cJSON *j = NULL;
    fp8_file *f = calloc(1, sizeof *f);
    memset(out, 0, sizeof *out);
    if (!f) return ts_fail(err, TS_EMEMORY, "%s: out of memory", path);
    TRY(ts_safetensors_open(err, path, &f->file));
    for (int i = 0; i < f->file.metas; i++)
        if (!strcmp(f->file.meta[i].key, "_quantization_metadata"))
            j = cJSON_Parse(f->file.meta[i].value);
    TRY(list_weights(err, f, cJSON_GetObjectItemCaseSensitive(j, "layers")));
    *out = (ts_source){.class = &ts_source_safetensors,
                       .path = f->file.path,
                       .size = f->file.size,
                       .entry = f->entry,
                       .entries = f->entries,
                       .warning = f->warning,
                       .own = f};
done:
    cJSON_Delete(j);
    if (st != TS_OK) free_fp8(f);
    return st;
}

static void close_fp8(ts_source *s) { free_fp8(s->own); }

/* ---- reading ---- */

/* Scale i, which has to be one. */
static ts_status read_scale(ts_err *err, const fp8_file *f, const ts_entry *scale, long i,
                            float *out)
{
    size_t size = ts_dtype_size(scale->t.type);
    ts_widen(scale->t.type, (const char *)scale->at + (size_t)i * size, 1, out);
    if (*out > 0 && isfinite(*out)) return TS_OK;
    return ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": scale %ld is %g, which is no scale",
                   f->file.path, scale->name, i, (double)*out);
}

static void multiply_row(float *x, long n, float by)
{
    for (long i = 0; i < n; i++) x[i] *= by;
}

static ts_status read_fp8(ts_err *err, const ts_source *s, const ts_entry *e, long first, long rows,
                          float *out)
{
    const fp8_file *f = s->own;
    const stored_form *form = f->form + (e - s->entry);
    if (!form->is_fp8) return ts_source_read_mapped(err, s, e, first, rows, out);
    assert(first >= 0 && rows >= 0 && first + rows <= ts_entry_rows(e));
    ts_status st = TS_OK;
    long width = ts_entry_width(e);
    char *format = first == 0 ? judge_mark(form->mark, true) : NULL;
    if (format) {
        st = ts_fail(err, TS_EMODEL, "%s: tensor \"%s\": %s is not supported", s->path, e->name,
                     format);
        free(format);
        return st;
    }
    ts_fp8_widen(form->type, (const uint8_t *)e->at + first * width, (size_t)(rows * width), out);
    if (!form->scale) return TS_OK;
    /* of one dimension: a number is what a scale calls a row */
    long row = e->t.nd == 1 ? 1 : width, n = rows * width / (row ? row : 1),
         parts = form->parts ? form->parts : 1, part = row / parts;
    float by;
    if (form->parts == 0) {
        TRY(read_scale(err, f, form->scale, 0, &by));
        multiply_row(out, rows * width, by);
        return TS_OK;
    }
    for (long i = 0; i < n * parts; i++) {
        TRY(read_scale(err, f, form->scale, first * parts + i, &by));
        multiply_row(out + i * part, part, by);
    }
done:
    return st;
}

static const char *find_fp8_meta(const ts_source *s, const char *key)
{
    const fp8_file *f = s->own;
    for (int i = 0; i < f->file.metas; i++)
        if (!strcmp(f->file.meta[i].key, key)) return f->file.meta[i].value;
    return NULL;
}

const ts_source_class ts_source_safetensors = {
    .open = open_fp8, .read = read_fp8, .close = close_fp8, .meta = find_fp8_meta};
