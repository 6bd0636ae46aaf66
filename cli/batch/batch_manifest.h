/* Reading manifests, for those who look at a batch without working on it. Internal to cli/batch/.
 */
#ifndef TS_BATCH_MANIFEST_H
#define TS_BATCH_MANIFEST_H
#include "cli/batch/batch.h"

#include <cjson/cJSON.h>

#define TS_MANIFEST_STEM "tessera-batch"
#define TS_MANIFEST_END ".jsonl"

const char *ts_record_text(const cJSON *, const char *key); /* "": there is none */
double ts_record_number(const cJSON *, const char *key);    /* 0 */
/* share: the middle of the file's name, "all" where it has none */
typedef void ts_manifest_line(void *user, const char *share, const char *path, const cJSON *);
/* Calls `each` for every line of every manifest of the folder that is JSON. */
void ts_manifest_lines(const char *out, ts_manifest_line *each, void *user);
/* TS_EMODEL: one is of a greater format than this version reads. */
ts_status ts_manifest_check(ts_err *, const char *out);
bool ts_manifest_locked(const char *path);                 /* a process is at work on it */
bool ts_share_at_work(const char *out, const char *share); /* the same of a share's */
/* The command line of this process, as a shell takes it; malloc'd; NULL: not known. */
char *ts_batch_command(void);
/* What the process at work as `share` is at: output, phase, step, steps, eta; NULL: nothing is
 * known. */
cJSON *ts_batch_now(const char *out, const char *share);
/* Of how many shares "I-of-N" is one; false: it is another kind of label. */
bool ts_label_shares(const char *label, int *n);
#endif
