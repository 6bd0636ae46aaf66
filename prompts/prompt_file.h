/* What a prompt file holds, for callers that render its rows. prompts/rows.h reads it, the public
 * ts_prompt_file_* of tessera.h hand it out. Installed beside tessera.h; C and C++. */
#ifndef TS_PROMPT_FILE_H
#define TS_PROMPT_FILE_H

/* A prompt file as written: rows of keys and values. What a key means and which values it takes is
 * decided by the caller that renders. */
typedef struct {
    const char *key;   /* a long name; '_' is written '-' */
    const char *value; /* numbers as written; a JSON list "1,2,3" */
    /* JSON had a number or a list of them; 0: text, also where it looks like a number */
    int number;
} ts_setting;
typedef struct {
    int line;  /* of the file, from 1: where the row begins */
    int index; /* among the file's prompts, from 1, faulty ones included */
    const char *prompt;
    ts_setting *field;
    int fields, faulty;
} ts_prompt;
typedef struct {
    int line;   /* 0: the file as a whole */
    char *text; /* what, and what was expected */
} ts_fault;
typedef struct {
    char *name; /* of the file, for sentences; "stdin" */
    ts_prompt *row;
    int rows;
    int header;      /* line that names the keys of all rows; 0: each row names its own */
    ts_fault *fault; /* in order of line */
    int faults;
} ts_prompts;
#endif
