/* The GGUF container, versions 2 and 3, little-endian: keys with typed values, and tensors of
 * numbers in blocks (backend/blocks.h).
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#ifndef TS_GGUF_H
#define TS_GGUF_H
#include "backend/blocks.h"
#include "weights/source.h"

typedef enum { /* as files number them */
               TS_GGUF_U8,
               TS_GGUF_I8,
               TS_GGUF_U16,
               TS_GGUF_I16,
               TS_GGUF_U32,
               TS_GGUF_I32,
               TS_GGUF_F32,
               TS_GGUF_BOOL,
               TS_GGUF_STRING,
               TS_GGUF_ARRAY,
               TS_GGUF_U64,
               TS_GGUF_I64,
               TS_GGUF_F64
} ts_gguf_type;
/* The value of a key, in the mapping: lives as long as the file is open. */
typedef struct {
    char *key;
    bool array;
    ts_gguf_type type; /* of the value; of an array's elements, which are no arrays */
    uint64_t n;        /* elements; 1 of what is no array */
    /* elements behind each other at any address, little-endian; a string is u64 bytes, then these
     * bytes. All within the file: that was checked */
    const uint8_t *data;
    size_t bytes;
} ts_gguf_value;
typedef struct ts_gguf ts_gguf;

/* The class: entries are numbers of F32, F16 and BF16 where they are mapped, blocks of other types
 * are decoded by `read`. Types that are not decoded are `odd`. Shapes are row-major: the reverse of
 * the file's dimensions, as many as it gives: writers drop leading ones, or fold dimensions, which
 * is for those to mend who know the tensor. */
extern const ts_source_class ts_source_gguf;
/* The keys of a source; NULL: it is of another class. */
const ts_gguf *ts_gguf_of(const ts_source *);

/* NULL: there is no such key. Of a key that is there twice the first counts. */
const ts_gguf_value *ts_gguf_find(const ts_gguf *, const char *key);
/* A string: n bytes without a 0 behind them, of any encoding. false: no such key, or it is no
 * string. */
bool ts_gguf_text(const ts_gguf *, const char *key, const char **s, size_t *n);
bool ts_gguf_text_is(const ts_gguf *, const char *key, const char *text);
/* A whole number or a bool that an int64_t holds. false: no such key, or it is none. */
bool ts_gguf_whole(const ts_gguf *, const char *key, int64_t *);
/* An array of this type; NULL: no such key, or it is none. */
const ts_gguf_value *ts_gguf_array(const ts_gguf *, const char *key, ts_gguf_type);
/* Element i of numbers or bools, rounded to a double. */
double ts_gguf_number(const ts_gguf_value *, uint64_t i);
/* Strings of an array, from its data on: *at moves to the next. */
const char *ts_gguf_next_text(const uint8_t **at, size_t *n);
#endif
