/* The command batch: what is asked for, in which order it is checked, what is said at the end.
 * Nothing is rendered and nothing is written before every row of every file has been looked at. */
#include "cli/batch/batch.h"
#include "cli/open_model.h"
#include "cli/preview_file.h"
#include "cli/side.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM ((size_t)1 << 30) /* bytes of encoded texts at once */

static ts_status check_batch_flags(ts_err *err, const ts_flags *f)
{
    static const struct {
        ts_flag_id a, b;
        const char *names;
    } apart[] = {{TS_F_SHARD, TS_F_QUEUE, "--shard and --queue"},
                 {TS_F_KEEP_GOING, TS_F_FAIL_FAST, "--keep-going and --fail-fast"}};
    if (!ts_flag_set(f, TS_F_OUT) && !(ts_flag_set(f, TS_F_STATUS) && f->words))
        return ts_fail(
            err, TS_EUSAGE,
            "batch: the folder of the outputs is missing: tessera batch prompts.txt --out DIR");
    if (!f->words && !ts_flag_set(f, TS_F_STATUS))
        return ts_fail(err, TS_EUSAGE,
                       "batch: a prompt file is missing: tessera batch prompts.txt --out DIR, "
                       "or - for standard input");
    if (f->words > TS_WORDS)
        return ts_fail(err, TS_EUSAGE, "batch: %d files, at most %d at once", f->words, TS_WORDS);
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        if (ts_flag_set(f, apart[i].a) && ts_flag_set(f, apart[i].b))
            return ts_fail(err, TS_EUSAGE, "batch: %s do not go together", apart[i].names);
    if (ts_flag_set(f, TS_F_JSON) && !ts_flag_set(f, TS_F_STATUS) && !ts_flag_set(f, TS_F_DRY_RUN))
        return ts_fail(err, TS_EUSAGE,
                       "batch: --json has a meaning with --status or --dry-run only");
    if (ts_flag_set(f, TS_F_CLAIM_TIMEOUT) && !ts_flag_set(f, TS_F_QUEUE))
        return ts_fail(err, TS_EUSAGE, "batch: --claim-timeout has a meaning with --queue only");
    if (f->value[TS_F_SEED].random)
        return ts_fail(err, TS_EUSAGE,
                       "--seed: got \"%s\", wanted a number: the seeds of a batch are fixed, "
                       "so that it can go on where it was stopped",
                       ts_flag_text(f, TS_F_SEED));
    if (ts_flag_set(f, TS_F_NAME)) return ts_batch_template(err, ts_flag_text(f, TS_F_NAME));
    return TS_OK;
}

static void set_label(ts_batch *b)
{
    char host[65] = ""; /* all of it: machines of a cluster often differ in its end */
    if (ts_flag_set(&b->c->flags, TS_F_QUEUE)) {
        gethostname(host, sizeof host - 1);
        for (char *s = host; *s; s++)
            if (*s == '/') *s = '_';
        snprintf(b->label, sizeof b->label, "%s-%ld", host, (long)getpid());
    } else if (b->shares > 1) {
        snprintf(b->label, sizeof b->label, "%d-of-%d", b->share, b->shares);
    } else {
        snprintf(b->label, sizeof b->label, "all");
    }
}

/* Every n-th row is ours: rows that stand together are alike, so shares come out alike, too. */
static void divide_rows(ts_batch *b)
{
    for (int i = 0; i < b->jobs; i++)
        if (i % b->shares != b->share - 1) b->job[i].state = TS_JOB_ELSEWHERE;
}

/* ---- what is said ---- */
typedef struct {
    int mine, done, failed, skipped, faulty, gave_up, todo, lost;
} tally;

static tally count_states(const ts_batch *b)
{
    tally t = {0};
    for (int i = 0; i < b->jobs; i++) {
        ts_job_state s = b->job[i].state;
        t.mine += s != TS_JOB_ELSEWHERE || b->job[i].lost;
        t.lost += b->job[i].lost;
        t.done += s == TS_JOB_DONE;
        t.skipped += s == TS_JOB_HAD;
        t.failed += s == TS_JOB_FAILED;
        t.faulty += s == TS_JOB_FAULTY;
        t.gave_up += s == TS_JOB_GAVE_UP;
        t.todo += s == TS_JOB_TODO;
    }
    return t;
}

static ts_status report_failures(ts_batch *b)
{
    tally t = count_states(b);
    int bad = t.failed + t.faulty + t.gave_up + t.lost + b->missing + b->others_failed,
        rows = t.mine + b->missing + b->others_failed;
    enum { PARTS = 6 };
    if (!bad) return TS_OK;
    char parts[PARTS][64];
    snprintf(parts[0], sizeof parts[0], "%d can not be used", t.faulty);
    snprintf(parts[1], sizeof parts[1], "%d failed", t.failed);
    snprintf(parts[2], sizeof parts[2], "%d failed before (--retry renders %s again)", t.gave_up,
             t.gave_up == 1 ? "it" : "them");
    snprintf(parts[3], sizeof parts[3], "%d taken over by other workers", t.lost);
    snprintf(parts[4], sizeof parts[4], "%d finished, says the queue, but not there", b->missing);
    snprintf(parts[5], sizeof parts[5], "%d failed at other workers (--status tells why)",
             b->others_failed);
    bool on[PARTS] = {t.faulty, t.failed, t.gave_up, t.lost, b->missing, b->others_failed};
    char all[500] = "";
    for (int i = 0; i < PARTS; i++)
        if (on[i])
            snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", *all ? ", " : "",
                     parts[i]);
    return ts_fail(&b->c->err, TS_EFAIL, "%d of %d row%s: %s", bad, rows, rows == 1 ? "" : "s",
                   all);
}

/* ---- the command ---- */
static ts_status open_batch(ts_batch *b)
{
    ts_status st = TS_OK;
    ts_cli *c = b->c;
    const ts_flag_value *memory = c->flags.value + TS_F_MEMORY;
    if (ts_flag_set(&c->flags, TS_F_SHARD))
        TRY(ts_batch_share(&c->err, ts_flag_text(&c->flags, TS_F_SHARD), getenv, &b->share,
                           &b->shares));
    TRY(ts_cli_open(c));
    TRY(ts_cli_open_model(c, NULL, NULL));
    b->room = memory->set && memory->wide / 8 < ROOM ? (size_t)memory->wide / 8 : ROOM;
    const char *name = ts_flag_text(&c->flags, TS_F_MODEL);
    char *full = name ? realpath(name, NULL) : NULL;
    b->model = full ? full : strdup(name ? name : "default");
    b->model_text = b->model ? ts_cli_model_text(&c->flags, b->model) : NULL;
    if (!b->model_text) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a name"));
    if (ts_flag_set(&c->flags, TS_F_PREVIEW))
        TRY(ts_previews_check(c, ts_flag_text(&c->flags, TS_F_PREVIEW)));
    TRY(ts_batch_read(b));
    TRY(ts_batch_names(b, ts_flag_text(&c->flags, TS_F_NAME)));
    divide_rows(b);
done:
    return st;
}

static ts_status make_cache_folder(ts_err *err, const ts_flags *f)
{
    struct stat s;
    const char *path = ts_flag_text(f, TS_F_CACHE);
    if (!path) return TS_OK;
    if (mkdir(path, 0777) && errno != EEXIST)
        return ts_fail(err, TS_EIO, "--cache: %s can not be made: %s", path, strerror(errno));
    if (stat(path, &s) || !S_ISDIR(s.st_mode))
        return ts_fail(err, TS_EUSAGE, "--cache: %s is not a folder", path);
    return TS_OK;
}

/* A folder that is there, or will be made, can be written into: of the latter the nearest one above
 * it that is there. folder: is cut on the way. */
static ts_status check_reachable(ts_err *err, const char *flag, char *folder, ts_status no_folder)
{
    struct stat s;
    while (stat(folder, &s) && errno == ENOENT && strcmp(folder, ".")) {
        char *slash = strrchr(folder, '/');
        snprintf(slash ? slash : folder, 2, "%s", !slash ? "." : slash == folder ? "/" : "");
    }
    if (stat(folder, &s) == 0 && !S_ISDIR(s.st_mode))
        return ts_fail(err, no_folder, "--%s: %s is not a folder", flag, folder);
    if (access(folder, W_OK | X_OK) == 0) return TS_OK;
    return ts_fail(err, TS_EIO, "--%s: can not write into %s: %s", flag, folder, strerror(errno));
}

static ts_status check_out(ts_cli *c, const char *out)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", out);
    return check_reachable(&c->err, "out", folder, TS_EUSAGE);
}

/* What is there is a report of an earlier run, or nothing that would be missed. */
static bool is_report(const char *path)
{
    char begin[sizeof TS_REPORT_BEGIN] = "";
    struct stat s;
    FILE *f = stat(path, &s) == 0 && S_ISREG(s.st_mode) && s.st_size > 0 ? fopen(path, "rbe")
                                                                         : NULL;
    if (!f) return true;
    size_t n = fread(begin, 1, sizeof begin - 1, f);
    fclose(f);
    return n == sizeof begin - 1 && !strcmp(begin, TS_REPORT_BEGIN);
}

/* The page may go into a folder that is made with the outputs. */
static ts_status check_report(ts_cli *c)
{
    struct stat s;
    const char *path = ts_flag_text(&c->flags, TS_F_REPORT);
    char folder[PATH_MAX], *slash;
    if (!path) return TS_OK;
    snprintf(folder, sizeof folder, "%s", path);
    slash = strrchr(folder, '/');
    if (slash && !slash[1]) return ts_fail(&c->err, TS_EUSAGE, "--report: %s is not a file", path);
    if (slash) *slash = 0;
    if (!ts_flag_set(&c->flags, TS_F_OVERWRITE) && !is_report(path))
        return ts_fail(&c->err, TS_EUSAGE,
                       "--report: %s exists and is no report of a batch: --overwrite replaces it",
                       path);
    if (!slash || !*folder || stat(folder, &s) == 0)
        return ts_side_check(&c->err, &c->flags, TS_F_REPORT, true);
    return check_reachable(&c->err, "report", folder, TS_EIO);
}

static ts_status make_report_folder(ts_batch *b)
{
    const char *report = ts_flag_text(&b->c->flags, TS_F_REPORT);
    char *path = report ? strdup(report) : NULL;
    if (!report) return TS_OK;
    if (!path) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a path");
    ts_status st = ts_batch_make_parents(&b->c->err, path);
    free(path);
    return st;
}

/* What an earlier run did is said before the work, not after it. */
static void say_skipped(ts_batch *b)
{
    tally t = count_states(b);
    if (t.skipped)
        ts_screen_note(&b->c->screen, "%d of %d rows skipped: their outputs are there", t.skipped,
                       t.mine);
    if (t.gave_up)
        ts_screen_note(&b->c->screen,
                       "%d row%s skipped that failed before: --retry renders %s again", t.gave_up,
                       t.gave_up == 1 ? "" : "s", t.gave_up == 1 ? "it" : "them");
    if (t.faulty)
        ts_screen_note(&b->c->screen, "%d row%s skipped that can not be used", t.faulty,
                       t.faulty == 1 ? "" : "s");
}

static ts_status run_batch(ts_batch *b)
{
    ts_status st = TS_OK;
    TRY(ts_manifest_open(b));
    TRY(make_report_folder(b));
    TRY(ts_manifest_read(b));
    TRY(ts_batch_plan(b));
    if (ts_flag_set(&b->c->flags, TS_F_FAIL_FAST) && b->faults)
        TRY(ts_fail(&b->c->err, TS_EMODEL,
                    "batch: %d fault%s in the files, and --fail-fast: nothing is rendered",
                    b->faults, b->faults == 1 ? "" : "s"));
    TRY(ts_batch_work_open(b));
    say_skipped(b);
    ts_batch_watch(b);
    st = ts_batch_render(b);
    ts_batch_unwatch(b);
    tally t = count_states(b);
    if (b->queue)
        for (int i = 0; i < b->jobs; i++)
            if (b->job[i].state == TS_JOB_TODO) b->job[i].state = TS_JOB_ELSEWHERE;
    ts_screen_batch_done(&b->c->screen, &(ts_batch_end){.done = t.done,
                                                        .failed = t.failed + t.faulty + t.gave_up,
                                                        .skipped = t.skipped,
                                                        .others_done = b->others_done,
                                                        .others_failed = b->others_failed,
                                                        .shared = b->queue != NULL});
    ts_batch_table(b);
    if (!st) st = report_failures(b);
    /* of all shares: the last one to end writes what the others did, too */
    if (ts_flag_set(&b->c->flags, TS_F_REPORT)) {
        ts_err first = b->c->err;
        b->ended = true;
        ts_status page = ts_batch_page(b);
        if (st)
            b->c->err = first;
        else
            st = page;
    }
done:
    return st;
}

ts_status ts_cli_batch(ts_cli *c)
{
    ts_status st = TS_OK;
    char *out = NULL;
    ts_batch b = {.c = c, .share = 1, .shares = 1};
    TRY(check_batch_flags(&c->err, &c->flags));
    out = strdup(ts_flag_set(&c->flags, TS_F_OUT) ? ts_flag_text(&c->flags, TS_F_OUT)
                                                  : c->flags.word[0]);
    if (!out) TRY(ts_fail(&c->err, TS_EMEMORY, "no memory for a path"));
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--) out[n - 1] = 0;
    b.out = out;
    if (ts_flag_set(&c->flags, TS_F_STATUS)) {
        st = ts_batch_status(&c->err, out, ts_flag_set(&c->flags, TS_F_JSON));
        goto done;
    }
    TRY(check_out(c, out));
    TRY(check_report(c));
    TRY(open_batch(&b));
    set_label(&b);
    if (ts_flag_set(&c->flags, TS_F_DRY_RUN)) {
        TRY(ts_manifest_read(&b));
        TRY(ts_batch_plan(&b));
        ts_batch_print_plan(&b, ts_flag_set(&c->flags, TS_F_JSON));
        TRY(report_failures(&b));
        goto done;
    }
    if (ts_flag_set(&c->flags, TS_F_QUEUE)) TRY(ts_queue_open(&b));
    TRY(make_cache_folder(&c->err, &c->flags));
    TRY(ts_cli_stopped(c));
    TRY(run_batch(&b));
done:
    ts_manifest_end(&b, st == TS_ESTOP ? "stopped" : st ? "incomplete" : "complete");
    ts_batch_work_close(&b);
    ts_queue_close(&b);
    ts_texts_close(b.texts);
    ts_manifest_close(&b);
    ts_batch_free_jobs(&b);
    free(b.model);
    free(b.model_text);
    free(out);
    return st;
}
