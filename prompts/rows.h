/* Prompt files: text lines with inline options, JSONL, CSV -> ts_prompts. docs/formats.md
 * defines the three. */
#ifndef TS_ROWS_H
#define TS_ROWS_H
#include "backend/ctx.h"
#include "prompts/prompt_file.h"

typedef enum {
    TS_PROMPTS_GUESS,
    TS_PROMPTS_TEXT,
    TS_PROMPTS_JSONL,
    TS_PROMPTS_CSV
} ts_prompts_kind;
/* By the name: .txt, .jsonl .ndjson .json, .csv .tsv; any other is to be guessed from the
 * content. */
ts_prompts_kind ts_prompts_kind_of(const char *name);
/* Reads `n` bytes, as `kind` says. Faults of syntax (a byte that is not UTF-8, broken JSON, an open
 * quote, a key given twice, an empty prompt) are listed and never end the reading, as far as the
 * file can still be understood; a row that has one is `faulty` and keeps its index. TS_EMEMORY.
 * *out: ts_prompts_free. */
ts_status ts_prompts_parse(ts_err *, const char *name, ts_prompts_kind, const char *bytes, size_t n,
                           ts_prompts **);
/* The same of a file, "-": standard input. TS_EMODEL: it can not be read. */
ts_status ts_prompts_read(ts_err *, const char *path, ts_prompts **);
void ts_prompts_free(ts_prompts *); /* NULL is legal */
/* Another fault, found by a caller that knows what keys mean; row NULL: the file's. Keeps the
 * order. TS_EMEMORY. */
ts_status ts_prompts_fault(ts_err *, ts_prompts *, ts_prompt *, int line, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
#endif
