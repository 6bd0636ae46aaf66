/* Runs the program as a user does and keeps what it said: what $TESSERA names, else ./tessera. The
 * tests run in the root of the tree. */
#ifndef PROGRAM_H
#define PROGRAM_H
#include "tests/testing.h"

#include <sys/types.h>

typedef struct {
    int code; /* exit code; 128 + signal when one ended it */
    char out[65536], err[65536];
} program_result;
/* `tessera ARGS`, through the shell, waited for. Static buffer of the next call's. */
const program_result *program_run(const char *args, ...) __attribute__((format(printf, 1, 2)));
/* The same of any shell command; $TESSERA in it is the program. */
const program_result *program_shell(const char *command, ...) __attribute__((format(printf, 1, 2)));
/* Fails the test unless the exit code is `code`, saying what was said. */
void program_expect(const program_result *, int code);
/* Starts `tessera ARGS` with stderr into the file `err`, and returns at once. */
pid_t program_start(const char *err, const char *args, ...) __attribute__((format(printf, 2, 3)));
/* Waits up to 60 s until the file holds `text` (false: the program ended before). */
bool program_says(pid_t, const char *err, const char *text);
int program_wait(pid_t); /* its code, as above */
/* A program that is held: the file `err` of program_start is a pipe of one page, so that it stands
 * still soon behind what was read of it, for as long as a test wants it there, whatever its
 * pace. */
int program_pipe(const char *err);
/* until it has said `text`: what it said; malloc'd. Fails the test when it ended before, or is
 * silent for 60 s */
char *program_reads(pid_t, int pipe, const char *text);
bool program_reads_bytes(pid_t, int pipe, long n); /* false: it ended before */
/* lets it go to its end and closes the pipe; its code */
int program_drain(pid_t, int pipe);
char *program_slurp(const char *path, size_t *size); /* malloc'd, ended by 0 */
bool program_same(const char *a, const char *b);     /* of equal bytes */
int program_files(const char *folder);               /* entries, hidden ones too */
#endif
