/* The public face of prompts/rows. */
#include "prompts/rows.h"
#include "sampler/tessera.h"

ts_status ts_prompt_file_read(ts_ctx *c, const char *path, ts_prompts **out)
{
    if (out) *out = NULL;
    if (!path || !out)
        return ts_fail(&c->err, TS_EUSAGE, "ts_prompt_file_read: no path, or no place");
    return ts_prompts_read(&c->err, path, out);
}
void ts_prompt_file_free(ts_prompts *p) { ts_prompts_free(p); }
ts_status ts_prompt_file_fault(ts_ctx *c, ts_prompts *p, ts_prompt *row, int line,
                               const char *sentence)
{
    return ts_prompts_fault(&c->err, p, row, line, "%s", sentence);
}
