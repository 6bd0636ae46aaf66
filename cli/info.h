/* What info says of files and folders that are no models. */
#ifndef TS_INFO_H
#define TS_INFO_H
#include "cli/cli.h"

typedef enum { TS_FOLDER_MODEL, TS_FOLDER_BATCH, TS_FOLDER_FRAMES, TS_FOLDER_TEXTS } ts_folder_kind;
/* By what lies in it: a folder that is none of the others is taken for a model's. */
ts_folder_kind ts_info_folder_kind(const char *dir);
/* Prints a table, or with --json an object on one line. TS_EMODEL: it can not be read, or is
 * nothing that tessera knows. */
ts_status ts_info_file(ts_cli *, const char *path);
ts_status ts_info_folder(ts_cli *, const char *dir, ts_folder_kind);
#endif
