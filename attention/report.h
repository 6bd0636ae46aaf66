/* What a run's self-attention did, in words. */
#ifndef TS_REPORT_H
#define TS_REPORT_H
#include "attention/attend.h"
/* For people: several lines; malloc'd. NULL: dense was asked for, nothing was done, or no
 * memory. */
char *ts_attn_report(const ts_attn *);
#endif
