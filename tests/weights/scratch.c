#include "tests/weights/scratch.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const char *scratch_write(const char *dir, const char *name, const void *data, size_t n)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f != NULL, "%s", path);
    ck_assert_uint_eq(fwrite(data, 1, n, f), n);
    ck_assert_int_eq(fclose(f), 0);
    return path;
}

const char *scratch_text(const char *dir, const char *name, const char *text)
{
    return scratch_write(dir, name, text, strlen(text));
}

const char *scratch_safetensors(const char *dir, const char *name, const char *header, size_t n)
{
    size_t h = strlen(header);
    uint8_t *b = malloc(8 + h + n);
    ck_assert_ptr_nonnull(b);
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)((uint64_t)h >> 8 * i);
    memcpy(b + 8, header, h);
    for (size_t i = 0; i < n; i++) b[8 + h + i] = (uint8_t)i;
    const char *path = scratch_write(dir, name, b, 8 + h + n);
    free(b);
    return path;
}

void scratch_expect(const ts_err *err, ts_status got, ts_status want, ...)
{
    va_list ap;
    ck_assert_msg(got == want, "status %d, expected %d: %s", got, want, err->text);
    va_start(ap, want);
    for (const char *part; (part = va_arg(ap, const char *));)
        ck_assert_msg(strstr(err->text, part) != NULL, "\"%s\" is not in: %s", part, err->text);
    va_end(ap);
}

uint16_t scratch_bf16(float f)
{
    uint32_t b;
    memcpy(&b, &f, 4);
    return (uint16_t)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

uint16_t scratch_f16(float f)
{
    int e;
    if (f == 0) return 0;
    float m = frexpf(fabsf(f), &e); /* m 2^e, m in [1/2, 1) */
    int bits = e < -13 ? (int)ldexpf(m, e + 24) : (e + 14) << 10 | ((int)ldexpf(m, 11) & 0x3ff);
    return (uint16_t)(bits | (f < 0 ? 0x8000 : 0));
}
