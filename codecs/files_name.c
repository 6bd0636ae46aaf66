/* Names of output files, and what may be written where. How a file gets its name is
 * backend/file_new.c's, what is in it files.c's. */
#include "codecs/files_name.h"

#include "backend/file_new.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DIGITS = 9 };
static const struct {
    const char *extension;
    ts_file_kind kind;
} KINDS[] = {{".png", TS_FILE_PNG},  {".mp4", TS_FILE_MP4},   {".webm", TS_FILE_WEBM},
             {".gif", TS_FILE_GIF},  {".mkv", TS_FILE_MKV},   {".y4m", TS_FILE_Y4M},
             {".jpg", TS_FILE_JPEG}, {".jpeg", TS_FILE_JPEG}, {".webp", TS_FILE_WEBP}};

static bool is_folder(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static const char *base_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* "%d", "%04d" or "%4d" in a name. */
static bool is_numbered(const char *base)
{
    for (const char *p = base; (p = strchr(p, '%'));) {
        p++;
        if (p[strspn(p, "0123456789")] == 'd') return true;
    }
    return false;
}

static ts_status parse_kind(ts_err *err, const char *path, ts_file_kind *kind, ts_file_kind *each)
{
    const char *base = base_of(path), *dot = strrchr(base, '.');
    /* a folder that is there by chance is not filled: the slash says that it is meant */
    if (!strcmp(base, ".") || !strcmp(base, "..") || (*base && is_folder(path)))
        return ts_fail(err, TS_EUSAGE,
                       "%s: a folder: %s/ puts numbered frames into it, or name a file there", path,
                       path);
    if (*path && !*base) {
        *kind = TS_FILE_FRAMES;
        *each = TS_FILE_PNG;
        return TS_OK;
    }
    for (size_t i = 0; dot && dot > base && i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcasecmp(dot, KINDS[i].extension) == 0) {
            bool picture = ts_file_is_picture(KINDS[i].kind);
            *kind = picture && strchr(base, '%') ? TS_FILE_FRAMES : KINDS[i].kind;
            *each = KINDS[i].kind;
            if (!picture && is_numbered(base))
                return ts_fail(err, TS_EUSAGE,
                               "%s: a %s holds all frames in one file; numbers like %%04d are "
                               "for pictures: frame-%%04d.png",
                               path, KINDS[i].extension);
            return TS_OK;
        }
    return ts_fail(err, TS_EUSAGE,
                   "%s: unknown kind of output, expected a name that ends in .png, .jpg, .webp, "
                   ".mp4, .webm, .gif, .mkv or .y4m, a pattern like frame-%%04d.png, a folder "
                   "(ends in /), or - "
                   "for standard output",
                   path);
}

/* The one %d or %0Nd in a file's name. */
static ts_status parse_pattern(ts_err *err, const char *path, const char *base, ts_name *out)
{
    const char *percent = strchr(base, '%'), *p = percent + 1;
    int digits = 0;
    if (p[0] == '0' && p[1] >= '1' && p[1] <= '0' + MAX_DIGITS) {
        digits = p[1] - '0';
        p += 2;
    }
    if (*p != 'd' || strchr(p, '%'))
        return ts_fail(err, TS_EUSAGE,
                       "%s: a pattern for numbered frames needs exactly one %%d or %%0Nd (N 1 to "
                       "%d), like frame-%%04d.png",
                       path, MAX_DIGITS);
    out->digits = digits;
    out->prefix = strndup(base, (size_t)(percent - base));
    out->suffix = strdup(p + 1);
    return TS_OK;
}

/* What goes to standard output. An MP4 does not, whose index stands before its pictures. */
static ts_status parse_format(ts_err *err, const char *path, const char *format, ts_file_kind *kind)
{
    *kind = TS_FILE_Y4M;
    if (!format) return TS_OK;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++)
        if (strcmp(format, KINDS[i].extension + 1) == 0 && KINDS[i].kind != TS_FILE_MP4) {
            *kind = KINDS[i].kind;
            return TS_OK;
        }
    return ts_fail(err, TS_EUSAGE,
                   "%s: standard output can not be %s, expected png, jpg, webp, webm, gif, mkv or "
                   "y4m",
                   path, format);
}

ts_status ts_file_kind_of(ts_err *err, const char *path, const char *format, ts_file_kind *kind)
{
    ts_name name;
    ts_status st = ts_name_init(err, path, format, &name);
    *kind = name.kind;
    ts_name_free(&name);
    return st;
}

ts_status ts_name_init(ts_err *err, const char *path, const char *format, ts_name *out)
{
    ts_status st = TS_OK;
    const char *base = base_of(path);
    *out = (ts_name){.kind = TS_FILE_PNG,
                     .standard = !strcmp(path, "-") || !strcmp(path, "/dev/stdout")};
    if (out->standard)
        TRY(parse_format(err, path, format, &out->kind));
    else
        TRY(parse_kind(err, path, &out->kind, &out->each));
    out->path = strdup(path);
    if (out->kind == TS_FILE_FRAMES && !*base) {
        size_t n = strlen(path);
        while (n > 1 && path[n - 1] == '/') n--;
        out->folder = strndup(path, n);
        out->make_folder = !is_folder(path);
        out->lead = strdup(path);
        out->prefix = strdup("");
        out->suffix = strdup(".png");
        out->digits = 4;
    } else {
        size_t n = (size_t)(base - path);
        out->folder = n == 0 ? strdup(".") : strndup(path, n > 1 ? n - 1 : 1);
        out->lead = strndup(path, n);
        if (out->kind == TS_FILE_FRAMES) {
            TRY(parse_pattern(err, path, base, out));
        } else {
            out->prefix = strdup(base);
            out->suffix = strdup("");
        }
    }
    if (!out->path || !out->folder || !out->lead || !out->prefix || !out->suffix)
        TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", path));
done:
    return st;
}

void ts_name_free(ts_name *name)
{
    free(name->path);
    free(name->folder);
    free(name->lead);
    free(name->prefix);
    free(name->suffix);
    *name = (ts_name){.kind = TS_FILE_PNG};
}

char *ts_name_file(const ts_name *name, int index)
{
    char *file = NULL;
    if (name->kind != TS_FILE_FRAMES) return strdup(name->path);
    return asprintf(&file, "%s%s%0*d%s", name->lead, name->prefix, name->digits, index,
                    name->suffix) < 0
               ? NULL
               : file;
}

/* The index that a file's name stands for; -1: it is not one of ours. */
static int index_of(const ts_name *name, const char *base)
{
    size_t before = strlen(name->prefix), after = strlen(name->suffix), n = strlen(base);
    char back[MAX_DIGITS + 2];
    if (n <= before + after || n - before - after > MAX_DIGITS ||
        strncmp(base, name->prefix, before) || strcmp(base + n - after, name->suffix))
        return -1;
    n -= before + after;
    for (size_t i = 0; i < n; i++)
        if (!isdigit((unsigned char)base[before + i])) return -1;
    int index = (int)strtol(base + before, NULL, 10);
    snprintf(back, sizeof back, "%0*d", name->digits, index);
    return strlen(back) == n ? index : -1;
}

int ts_name_next(const ts_name *name, int from)
{
    int best = -1;
    DIR *d = opendir(name->folder);
    if (!d) return -1;
    for (struct dirent *e; (e = readdir(d));) {
        int index = index_of(name, e->d_name);
        if (index >= from && (best < 0 || index < best)) best = index;
    }
    closedir(d);
    return best;
}

/* Cuts a path to the folder that it is in. */
static void cut_to_parent(char *path)
{
    char *slash = strrchr(path, '/');
    if (!slash)
        strcpy(path, ".");
    else
        slash[slash == path] = 0;
}

/* The nearest folder that is there can be written into: those below it are made (make_parents). */
static ts_status check_folder(ts_err *err, const ts_name *name)
{
    ts_status st = TS_OK;
    struct stat s;
    char *folder = strdup(name->folder);
    if (!folder) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", name->path));
    while (stat(folder, &s) != 0) {
        if (errno != ENOENT || !strcmp(folder, ".") || !strcmp(folder, "/"))
            TRY(ts_fail(err, TS_EIO, "%s: the folder %s can not be written to: %s", name->path,
                        folder, strerror(errno)));
        cut_to_parent(folder);
    }
    if (!S_ISDIR(s.st_mode))
        TRY(ts_fail(err, TS_EIO, "%s: %s is not a folder", name->path, folder));
    if (eaccess(folder, W_OK | X_OK) != 0)
        TRY(ts_fail(err, TS_EIO, "%s: the folder %s can not be written to: %s", name->path, folder,
                    strerror(errno)));
done:
    free(folder);
    return st;
}

ts_status ts_name_make_parents(ts_err *err, const ts_name *name)
{
    ts_status st = TS_OK;
    char *folder = strdup(name->folder);
    if (!folder) return ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", name->path);
    if (name->standard) goto done;
    if (name->make_folder) cut_to_parent(folder);
    for (char *s = folder;; s++) {
        if (s > folder && (*s == '/' || !*s)) {
            char was = *s;
            *s = 0;
            if (mkdir(folder, 0777) && errno != EEXIST)
                TRY(ts_fail(err, TS_EIO, "%s: the folder %s can not be made: %s", name->path,
                            folder, strerror(errno)));
            *s = was;
        }
        if (!*s) break;
    }
done:
    free(folder);
    return st;
}

ts_status ts_name_check_length(ts_err *err, const ts_name *name, int frames)
{
    char *last = ts_name_file(name, frames > 0 ? frames - 1 : 0); /* the longest */
    if (!last) return ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", name->path);
    ts_status st = ts_newfile_check(err, last);
    free(last);
    return st;
}

ts_status ts_name_check(ts_err *err, const ts_name *name, bool overwrite)
{
    ts_status st = TS_OK;
    struct stat s;
    char *file = NULL;
    if (name->standard && isatty(STDOUT_FILENO))
        TRY(ts_fail(
            err, TS_EUSAGE,
            "%s: standard output is a terminal: send it on, like -o - | ffmpeg -i - clip.mov",
            name->path));
    if (name->standard) goto done;
    TRY(ts_name_check_length(err, name, 1));
    TRY(check_folder(err, name));
    if (overwrite) goto done;
    int first = name->kind == TS_FILE_FRAMES ? ts_name_next(name, 0) : 0;
    if (first < 0) goto done;
    file = ts_name_file(name, first);
    if (!file) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for a file name", name->path));
    if (lstat(file, &s) == 0)
        TRY(ts_fail(err, TS_EUSAGE,
                    "%s exists already, and overwriting was not asked for (`overwrite`)", file));
done:
    free(file);
    return st;
}
