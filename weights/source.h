/* What holds tensors: one class for each file format. Code that wants numbers knows entries alone;
 * how a format stores them is the class's business.
 *
 * A new format is a file with a class, and a line in ts_source_open. */
#ifndef TS_SOURCE_H
#define TS_SOURCE_H
#include "backend/ctx.h"

typedef struct {
    char *name;
    /* The shape. data: the numbers in the mapping, row-major, at any byte; NULL: only the source's
     * read gives them. type: of the numbers at data, or F32 where there are none */
    ts_host t;
    const char *storage; /* the storage format as the file spells it: "BF16", "Q4_K", ... */
    const void *at;      /* the stored bytes, in the mapping; t.data, where there is one */
    size_t bytes;        /* stored */
    /* NULL, or why this tensor can not be used ("type F64", "6 dimensions"): t then holds the data
     * alone. Refused when it is asked for */
    char *odd;
} ts_entry;

typedef struct ts_source ts_source;
typedef struct {
    /* Maps the file and checks what it claims, touching no page behind the header. TS_EMODEL names
     * file and tensor; *out is then closed. */
    ts_status (*open)(ts_err *, const char *path, ts_source *out);
    /* Rows of an entry that is not odd as f32, exactly: out [rows, width], ts_entry_rows and
     * _width. Of mapped numbers F32, BF16 and F16 alone */
    ts_status (*read)(ts_err *, const ts_source *, const ts_entry *, long first, long rows,
                      float *out);
    void (*close)(ts_source *);
    /* the text of a key of the file's metadata; NULL: there is none */
    const char *(*meta)(const ts_source *, const char *key);
} ts_source_class;
struct ts_source {
    const ts_source_class *class;
    const char *path;
    size_t size;           /* bytes of the file */
    const ts_entry *entry; /* sorted by name, all different */
    int entries;
    /* NULL, or a sentence on what is odd about the file, for whoever opens it to pass on */
    const char *warning;
    void *own; /* the class's */
};
/* Opens a file by what it holds, never by its name. As ts_source_class.open; TS_EMODEL also: a file
 * of a kind that is known and not read. */
ts_status ts_source_open(ts_err *, const char *path, ts_source *out);
void ts_source_close(ts_source *); /* a zeroed or closed one is legal */
/* The entry of that name; NULL: there is none. */
const ts_entry *ts_source_find(const ts_source *, const char *name);
/* As the class's meta, which may be missing. */
const char *ts_source_meta(const ts_source *, const char *key);

/* Rows run along the first dimension; what has fewer than two dimensions is one row. */
long ts_entry_rows(const ts_entry *);
long ts_entry_width(const ts_entry *); /* numbers in a row */
long ts_entry_count(const ts_entry *); /* numbers */
/* A `read` for entries whose numbers are mapped. */
ts_status ts_source_read_mapped(ts_err *, const ts_source *, const ts_entry *, long first,
                                long rows, float *out);

/* to[i] = from[i], n elements of F32, BF16 or F16 at any address; other types are our own
 * mistake. */
void ts_widen(ts_dtype, const void *from, size_t n, float *to);
/* "[2, 3]" into buf, for sentences; a dim of -1 reads "any". Returns buf. */
const char *ts_shape_text(int nd, const long *dim, char buf[96]);
#endif
