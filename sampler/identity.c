/* What a content is known by: of files that people make, every byte; of models, samples. */
#include "sampler/identity.h"
#include "sampler/loras.h"

#include "attention/policy.h"
#include "backend/hash.h"
#include "backend/suffix.h"
#include "weights/split.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static ts_status hash_samples(ts_err *err, const char *path, uint64_t *h)
{
    enum { SAMPLES = 64, BYTES = 64 };
    struct stat s;
    uint8_t b[BYTES];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &s)) {
        if (fd >= 0) close(fd);
        return ts_fail(err, TS_EMODEL, "%s: %s", path, strerror(errno));
    }
    *h = ts_hash(*h, &s.st_size, sizeof s.st_size);
    for (int i = 0; i < SAMPLES; i++) {
        ssize_t n = pread(fd, b, sizeof b,
                          s.st_size > BYTES ? (s.st_size - BYTES) / (SAMPLES - 1) * i : 0);
        if (n > 0) *h = ts_hash(*h, b, (size_t)n);
    }
    close(fd);
    return TS_OK;
}

/* A file, or the parts that it is one of by its name and that are there. */
static ts_status hash_parts(ts_err *err, const char *path, uint64_t *h)
{
    ts_status st = TS_OK;
    ts_split split;
    ts_split_read(path, &split);
    for (int i = 1; i <= split.parts && !st; i++) {
        char *part = ts_split_path(&split, i);
        if (!part) return ts_fail(err, TS_EMEMORY, "no memory for a file's name");
        if (i == split.part || access(part, F_OK) == 0) st = hash_samples(err, part, h);
        free(part);
    }
    return st;
}

ts_status ts_identity_folder(ts_err *err, const char *dir, uint64_t *h)
{
    ts_status st = TS_OK;
    struct dirent **list = NULL;
    char *path = NULL;
    struct stat s;
    if (stat(dir, &s) == 0 && S_ISREG(s.st_mode)) return hash_parts(err, dir, h);
    int n = scandir(dir, &list, NULL, alphasort);
    if (n < 0) TRY(ts_fail(err, TS_EMODEL, "%s: %s", dir, strerror(errno)));
    for (int i = 0; i < n; i++) {
        const char *name = list[i]->d_name;
        if (!ts_ends_with(name, ".safetensors") && !ts_ends_with(name, ".json")) continue;
        free(path);
        if (asprintf(&path, "%s/%s", dir, name) < 0) {
            path = NULL;
            TRY(ts_fail(err, TS_EMEMORY, "no memory for a file's name"));
        }
        *h = ts_hash(*h, name, strlen(name));
        TRY(hash_samples(err, path, h));
    }
done:
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
    free(path);
    return st;
}

ts_status ts_identity_file(ts_err *err, const char *path, uint64_t *h)
{
    uint8_t b[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) return ts_fail(err, TS_EMODEL, "%s: %s", path, strerror(errno));
    while ((n = fread(b, 1, sizeof b, f)) > 0) *h = ts_hash(*h, b, n);
    bool bad = ferror(f);
    fclose(f);
    return bad ? ts_fail(err, TS_EMODEL, "%s: can not be read", path) : TS_OK;
}

ts_status ts_identity_model(const ts_model *m, bool vae, uint64_t *h)
{
    for (int i = 0; i < m->dir.parts; i++) {
        const ts_component *c = m->dir.part + i;
        if ((!vae && !strcmp(c->name, "vae")) || access(c->dir, F_OK)) continue;
        *h = ts_hash_text(*h, c->name);
        ts_status st = ts_identity_folder(&m->ctx->err, c->dir, h);
        if (st) return st;
    }
    return TS_OK;
}

ts_status ts_request_files(ts_model *m, const ts_request *q, uint64_t *hash)
{
    ts_status st = TS_OK;
    ts_err *err = &m->ctx->err;
    ts_policy policy = {.file = ""};
    ts_lora_wish *lora = NULL;
    uint64_t h = TS_HASH;
    int n = 0;
    if (!q || !hash) TRY(ts_fail(err, TS_EUSAGE, "ts_request_files: no request, or no hash"));
    if (q->attention) TRY(ts_policy_parse(err, q->attention, &policy));
    TRY(ts_lora_wishes_read(err, q->loras, &lora, &n));
    if (*policy.file) TRY(ts_identity_file(err, policy.file, &h));
    for (int i = 0; i < n; i++) TRY(ts_identity_folder(err, lora[i].path, &h));
    *hash = *policy.file || n ? h : 0;
done:
    ts_lora_wishes_free(lora, n);
    return st;
}
