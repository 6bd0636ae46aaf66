/* Rows shared one by one through a Redis server: a stream NAME holds a message a row, the consumer
 * group `tessera` hands each to one worker, who acknowledges it when the row's file has its name. A
 * message that its worker has not touched for --claim-timeout is taken over. A thread that does
 * nothing else keeps the claim fresh, whatever the worker computes or waits for. Two more keys:
 * NAME:plan says which batch the queue holds, NAME:rows what became of each row. Needs Redis 6.2
 * (XAUTOCLAIM). */
#include "cli/batch/batch.h"

#include "backend/clock.h"
#include "backend/hash.h"
#include "backend/number.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define GROUP "tessera"
/* seconds to reach a server again, for an answer; times that a row may end its worker */
enum { PATIENCE = 60, ANSWER = 30, DELIVERIES = 3 };

struct ts_queue {
    redisContext *r;
    char *user, *password, *host, *name, *plan, *rows;
    int port;
    char claim[64]; /* id of the message that is ours now; "": none */
    long timeout_ms;
    bool waiting; /* said so */
    /* The keeper talks to the server while there is a claim, and the worker may, too: `lock` guards
     * r and claim. Without a claim the connection is the worker's alone. */
    pthread_t keeper;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool keeps, ending;
};

/* ---- the address ---- */
static ts_status refuse_url(ts_batch *b)
{
    return ts_fail(&b->c->err, TS_EUSAGE,
                   "--queue: wanted redis://HOST:PORT/NAME, with [USER]:PASSWORD@ before HOST "
                   "where the server asks for it");
}

static char *copy_span(const char *from, const char *to)
{
    return strndup(from, (size_t)(to - from));
}

/* redis://[user:password@]host[:port]/name; an IPv6 address stands in brackets. */
static ts_status parse_url(ts_batch *b, const char *url)
{
    ts_queue *q = b->queue;
    const char *password = getenv("REDISCLI_AUTH");
    if (!strncmp(url, "rediss://", 9))
        return ts_fail(&b->c->err, TS_EUSAGE,
                       "--queue: rediss:// (TLS) is not supported: a tunnel to the server "
                       "(stunnel, ssh -L) with redis:// is");
    if (strncmp(url, "redis://", 8)) return refuse_url(b);
    const char *s = url + 8, *slash = strchr(s, '/'),
               *at = slash ? memrchr(s, '@', (size_t)(slash - s)) : NULL;
    if (!slash || !slash[1] || strchr(slash + 1, '/')) return refuse_url(b);
    if (at) {
        const char *colon = memchr(s, ':', (size_t)(at - s));
        if (!colon) return refuse_url(b);
        if (colon > s) q->user = copy_span(s, colon);
        q->password = copy_span(colon + 1, at);
        s = at + 1;
    } else if (password) {
        q->password = strdup(password);
    }
    const char *end = *s == '[' ? memchr(s, ']', (size_t)(slash - s))
                                : memchr(s, ':', (size_t)(slash - s));
    if (*s == '[' && !end) return refuse_url(b);
    const char *host_end = end ? end : slash, *port = *s == '[' ? end + 1 : end ? end : slash;
    q->host = *s == '[' ? copy_span(s + 1, host_end) : copy_span(s, host_end);
    q->port = 6379;
    if (port < slash) {
        uint64_t p;
        const char *rest;
        if (*port != ':' || !ts_whole_prefix(port + 1, &p, &rest) || rest != slash)
            return refuse_url(b);
        if (p < 1 || p > 65535) return refuse_url(b);
        q->port = (int)p;
    }
    q->name = strdup(slash + 1);
    if (asprintf(&q->plan, "%s:plan", slash + 1) < 0) q->plan = NULL;
    if (asprintf(&q->rows, "%s:rows", slash + 1) < 0) q->rows = NULL;
    if (!q->host || !q->name || !q->plan || !q->rows)
        return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a queue");
    return *q->host ? TS_OK : refuse_url(b);
}

/* ---- talking ---- */
static ts_status fail_server(ts_err *err, const ts_queue *q, const char *what)
{
    return ts_fail(err, TS_EDEVICE, "--queue: %s:%d: %s", q->host, q->port, what);
}

static ts_status fail_queue(ts_batch *b, const char *what)
{
    return fail_server(&b->c->err, b->queue, what);
}

static void free_reply(redisReply **r)
{
    if (*r) freeReplyObject(*r);
    *r = NULL;
}

static ts_status authenticate(ts_err *err, ts_queue *q)
{
    ts_status st = TS_OK;
    if (!q->password) return TS_OK;
    redisReply *r = q->user ? redisCommand(q->r, "AUTH %s %s", q->user, q->password)
                            : redisCommand(q->r, "AUTH %s", q->password);
    if (r && r->type == REDIS_REPLY_ERROR) st = fail_server(err, q, r->str);
    if (r) freeReplyObject(r);
    return st;
}

static ts_status connect_once(ts_err *err, ts_queue *q)
{
    if (q->r) redisFree(q->r);
    q->r = redisConnectWithTimeout(q->host, q->port, (struct timeval){.tv_sec = ANSWER});
    if (!q->r) return ts_fail(err, TS_EMEMORY, "no memory for a connection");
    if (q->r->err) return fail_server(err, q, q->r->errstr);
    redisSetTimeout(q->r, (struct timeval){.tv_sec = ANSWER});
    redisEnableKeepAlive(q->r);
    return authenticate(err, q);
}

static void pause_seconds(double s)
{
    nanosleep(
        &(struct timespec){.tv_sec = (time_t)s, .tv_nsec = (long)((s - (double)(long)s) * 1e9)},
        NULL);
}

/* A night is long enough for a server to be started anew: it gets a minute. */
static ts_status reconnect(ts_batch *b)
{
    ts_status st;
    double until = ts_seconds() + PATIENCE;
    for (;;) {
        st = ts_cli_stopped(b->c);
        if (st) return st;
        st = connect_once(&b->c->err, b->queue);
        if (st != TS_EDEVICE || ts_seconds() > until) return st;
        pause_seconds(1);
    }
}

/* One command; its answer in *out, for free_reply(). What is sent twice because an answer was lost
 * does no harm. An error that the server tells ends the batch, unless `tolerant`. */
static ts_status send_command(ts_batch *b, redisReply **out, bool tolerant, const char *format, ...)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    free_reply(out);
    pthread_mutex_lock(&q->lock);
    for (int tries = 0; !st && !*out && tries < 3; tries++) {
        va_list list;
        va_start(list, format);
        *out = q->r && !q->r->err ? redisvCommand(q->r, format, list) : NULL;
        va_end(list);
        if (!*out) st = reconnect(b);
    }
    pthread_mutex_unlock(&q->lock);
    if (st) return st;
    if (!*out) return fail_queue(b, "the connection is lost again and again");
    if ((*out)->type != REDIS_REPLY_ERROR || tolerant) return TS_OK;
    if (strstr((*out)->str, "unknown command"))
        return fail_queue(b, "the server is too old: Redis 6.2 or later is needed");
    return fail_queue(b, (*out)->str);
}

static void set_claim(ts_queue *q, const char *id)
{
    pthread_mutex_lock(&q->lock);
    snprintf(q->claim, sizeof q->claim, "%s", id);
    pthread_mutex_unlock(&q->lock);
}

/* ---- keeping the claim ---- */
/* In one step: still ours? Then it is as fresh as if just claimed. */
static const char script[] =
    "local p = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) "
    "if #p == 0 or p[1][2] ~= ARGV[3] then return 0 end "
    "redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, ARGV[2], 'JUSTID') return 1";

/* false: the server was not reached. Whether the claim was still ours is asked when the row is
 * done. */
static bool renew_claim(ts_batch *b)
{
    ts_queue *q = b->queue;
    ts_err unsaid;
    if ((!q->r || q->r->err) && connect_once(&unsaid, q)) return false;
    redisReply *r = redisCommand(q->r, "EVAL %s 1 %s " GROUP " %s %s", script, q->name, q->claim,
                                 b->label);
    bool reached = r != NULL;
    free_reply(&r);
    return reached;
}

/* A server that is away for a while is no reason to stop rendering: it is asked again every second,
 * and nothing is said. */
static void *keep_claim(void *batch)
{
    ts_batch *b = batch;
    ts_queue *q = b->queue;
    pthread_mutex_lock(&q->lock);
    for (bool reached = true; !q->ending;) {
        long ms = reached || q->timeout_ms < 4000 ? q->timeout_ms / 4 : 1000;
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        t.tv_sec += ms / 1000 + (t.tv_nsec + ms % 1000 * 1000000) / 1000000000;
        t.tv_nsec = (t.tv_nsec + ms % 1000 * 1000000) % 1000000000;
        int late = 0;
        while (!q->ending && !late) late = pthread_cond_timedwait(&q->wake, &q->lock, &t);
        if (!q->ending) reached = !*q->claim || renew_claim(b);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

/* Signals are the main thread's, which sleeps and waits for them. */
static ts_status start_keeper(ts_batch *b)
{
    ts_queue *q = b->queue;
    sigset_t all, was;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &was);
    int failed = pthread_create(&q->keeper, NULL, keep_claim, b);
    pthread_sigmask(SIG_SETMASK, &was, NULL);
    q->keeps = !failed;
    return failed ? ts_fail(&b->c->err, TS_EMEMORY, "--queue: no thread: %s", strerror(failed))
                  : TS_OK;
}

static void end_keeper(ts_queue *q)
{
    if (!q->keeps) return;
    pthread_mutex_lock(&q->lock);
    q->ending = true;
    pthread_cond_signal(&q->wake);
    pthread_mutex_unlock(&q->lock);
    pthread_join(q->keeper, NULL);
    q->keeps = false;
}

ts_status ts_queue_holds(ts_batch *b, bool *ours)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    *ours = false;
    if (!*q->claim) return TS_OK;
    TRY(send_command(b, &r, false, "EVAL %s 1 %s " GROUP " %s %s", script, q->name, q->claim,
                     b->label));
    *ours = r->type == REDIS_REPLY_INTEGER && r->integer == 1;
    if (!*ours) set_claim(q, "");
done:
    free_reply(&r);
    return st;
}

/* ---- opening and closing ---- */
#define AS_TEXT(x) #x
#define NUMBER(x) AS_TEXT(x)
const char *ts_queue_client(void)
{
    return "hiredis " NUMBER(HIREDIS_MAJOR) "." NUMBER(HIREDIS_MINOR) "." NUMBER(HIREDIS_PATCH);
}

ts_status ts_queue_open(ts_batch *b)
{
    ts_status st = TS_OK;
    const ts_flag_value *timeout = b->c->flags.value + TS_F_CLAIM_TIMEOUT;
    pthread_condattr_t monotonic;
    ts_queue *q = b->queue = calloc(1, sizeof *q);
    if (!q) return ts_fail(&b->c->err, TS_EMEMORY, "no memory for a queue");
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&q->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    TRY(parse_url(b, ts_flag_text(&b->c->flags, TS_F_QUEUE)));
    q->timeout_ms = 1000 * (timeout->set ? timeout->whole : 900);
    TRY(connect_once(&b->c->err, q));
    TRY(start_keeper(b));
done:
    return st;
}

void ts_queue_close(ts_batch *b)
{
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    if (!q) return;
    end_keeper(q);
    /* the others need not wait for the timeout: the message is made to look as old as that */
    if (*q->claim && q->r && !q->r->err) {
        r = redisCommand(q->r, "XCLAIM %s " GROUP " %s 0 %s IDLE %ld JUSTID", q->name, b->label,
                         q->claim, q->timeout_ms + 1);
        free_reply(&r);
    }
    if (q->r) redisFree(q->r);
    pthread_cond_destroy(&q->wake);
    pthread_mutex_destroy(&q->lock);
    free(q->user);
    free(q->password);
    free(q->host);
    free(q->name);
    free(q->plan);
    free(q->rows);
    free(q);
    b->queue = NULL;
}

/* ---- offering rows ---- */
static void queue_plan(const ts_batch *b, char out[64])
{
    uint64_t h = TS_HASH;
    int n = 0;
    for (int i = 0; i < b->jobs; i++) {
        if (b->job[i].state == TS_JOB_FAULTY) continue;
        h = ts_hash_text(h, b->job[i].id);
        n++;
    }
    snprintf(out, 64, "%016llx %d rows", (unsigned long long)h, n);
}

/* as HGETALL answers, one behind the other */
typedef struct {
    const redisReply *id, *state;
} known_row;

static int by_id(const void *a, const void *b)
{
    return strcmp(((const known_row *)a)->id->str, ((const known_row *)b)->id->str);
}

/* What the queue knows of a row: "queued", "done", "failed"; NULL: nothing. */
static const char *known_state(const redisReply *known, const char *id)
{
    redisReply named = {.str = (char *)id};
    const known_row key = {.id = &named},
                    *found = known->elements ? bsearch(&key, known->element, known->elements / 2,
                                                       sizeof key, by_id)
                                             : NULL;
    return found ? found->state->str : NULL;
}

static ts_status check_plan(ts_batch *b, const redisReply *r, const char *plan)
{
    if (r->type != REDIS_REPLY_STRING || !strcmp(r->str, plan)) return TS_OK;
    const char *rows = strchr(r->str, ' ');
    return ts_fail(&b->c->err, TS_EUSAGE,
                   "--queue: %s holds another batch (%s, from other files or other flags): "
                   "another name begins a new one, redis-cli DEL %s %s %s forgets the old one",
                   b->queue->name, rows ? rows + 1 : "?", b->queue->name, b->queue->plan,
                   b->queue->rows);
}

/* Offers what has not been offered, in one transaction; *again: another worker did so meanwhile. */
static ts_status fill_once(ts_batch *b, bool *again)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL, *known = NULL;
    char plan[64];
    int missing = 0;
    bool retry = ts_flag_set(&b->c->flags, TS_F_RETRY);
    *again = false;
    queue_plan(b, plan);
    TRY(send_command(b, &r, false, "WATCH %s %s", q->plan, q->rows));
    TRY(send_command(b, &r, false, "GET %s", q->plan));
    TRY(check_plan(b, r, plan));
    TRY(send_command(b, &known, false, "HGETALL %s", q->rows));
    if (known->elements) qsort(known->element, known->elements / 2, sizeof(known_row), by_id);
    /* an error says that it is there */
    TRY(send_command(b, &r, true, "XGROUP CREATE %s " GROUP " 0 MKSTREAM", q->name));
    TRY(send_command(b, &r, false, "MULTI"));
    int sent = 0;
    redisAppendCommand(q->r, "SET %s %s", q->plan, plan);
    sent++;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        if (j->state != TS_JOB_TODO && j->state != TS_JOB_FAILED) continue;
        const char *state = known_state(known, j->id);
        bool over = state && strcmp(state, "queued");
        if (state && !(over && (retry || j->again))) {
            missing += over && !strcmp(state, "done") && !ts_batch_exists(b, j->name);
            continue;
        }
        redisAppendCommand(q->r, "XADD %s * row %s", q->name, j->id);
        sent++;
        redisAppendCommand(q->r, "HSET %s %s queued", q->rows, j->id);
        sent++;
    }
    for (int i = 0; i < sent; i++) {
        free_reply(&r);
        /* nothing of a transaction has happened before EXEC */
        if (redisGetReply(q->r, (void **)&r) != REDIS_OK) {
            *again = true;
            TRY(reconnect(b));
            goto done;
        }
    }
    TRY(send_command(b, &r, true, "EXEC"));
    /* others were faster; or the connection was another one */
    *again = r->type == REDIS_REPLY_NIL || r->type == REDIS_REPLY_ERROR;
    if (missing && !*again) {
        char text[200];
        snprintf(text, sizeof text,
                 "%d row%s finished, says the queue, but not in %.80s: --retry renders %s again",
                 missing, missing == 1 ? " is" : "s are", b->out, missing == 1 ? "it" : "them");
        b->missing = missing;
        ts_screen_warn(&b->c->screen, text);
    }
done:
    free_reply(&r);
    free_reply(&known);
    return st;
}

ts_status ts_queue_fill(ts_batch *b)
{
    bool again = true;
    for (int tries = 0; again && tries < 100; tries++) {
        ts_status st = fill_once(b, &again);
        if (st) return st;
    }
    return again ? fail_queue(b, "the queue can not be filled: others change it all the time")
                 : TS_OK;
}

/* ---- claiming ---- */
/* [[id, [field, value]]] -> our claim and the job it stands for. */
static ts_status read_claim(ts_batch *b, const redisReply *messages, int *job)
{
    ts_queue *q = b->queue;
    if (!messages || messages->type != REDIS_REPLY_ARRAY || !messages->elements ||
        messages->element[0]->type != REDIS_REPLY_ARRAY || messages->element[0]->elements < 2)
        return TS_OK;
    const redisReply *id = messages->element[0]->element[0],
                     *fields = messages->element[0]->element[1];
    if (fields->type != REDIS_REPLY_ARRAY || fields->elements < 2)
        return fail_queue(b, "a message without a row");
    for (int i = 0; i < b->jobs; i++)
        if (b->job[i].name && !strcmp(b->job[i].id, fields->element[1]->str)) *job = i;
    if (*job < 0)
        return ts_fail(&b->c->err, TS_EUSAGE, "--queue: row %.32s of %s is not in these files",
                       fields->element[1]->str, q->name);
    set_claim(q, id->str);
    q->waiting = false;
    return TS_OK;
}

/* A row that has ended several workers would end them all, one after the other. */
static ts_status check_deliveries(ts_batch *b, int job)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    ts_job *j = b->job + job;
    redisReply *r = NULL;
    TRY(send_command(b, &r, false, "XPENDING %s " GROUP " %s %s 1", q->name, q->claim, q->claim));
    long long times = r->type == REDIS_REPLY_ARRAY && r->elements == 1 &&
                              r->element[0]->elements == 4
                          ? r->element[0]->element[3]->integer
                          : 1;
    if (times > DELIVERIES) {
        j->state = TS_JOB_FAILED;
        free(j->error);
        if (asprintf(&j->error, "%lld workers began it and were not heard of again", times - 1) < 0)
            j->error = NULL;
    }
done:
    free_reply(&r);
    return st;
}

static ts_status claim_silent(ts_batch *b, int *job)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    char cursor[64] = "0-0";
    do {
        TRY(send_command(b, &r, false, "XAUTOCLAIM %s " GROUP " %s %ld %s COUNT 1", q->name,
                         b->label, q->timeout_ms, cursor));
        if (r->type != REDIS_REPLY_ARRAY || r->elements < 2)
            TRY(fail_queue(b, "an answer to XAUTOCLAIM that is none"));
        snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
        TRY(read_claim(b, r->element[1], job));
        if (*job >= 0) TRY(check_deliveries(b, *job));
    } while (*job < 0 && strcmp(cursor, "0-0"));
done:
    free_reply(&r);
    return st;
}

static ts_status claim_new(ts_batch *b, int *job)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    TRY(send_command(b, &r, false, "XREADGROUP GROUP " GROUP " %s COUNT 1 STREAMS %s >", b->label,
                     q->name));
    if (r->type == REDIS_REPLY_ARRAY && r->elements && r->element[0]->elements == 2)
        TRY(read_claim(b, r->element[0]->element[1], job));
done:
    free_reply(&r);
    return st;
}

ts_status ts_queue_next(ts_batch *b, int *job)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    double pause = (double)q->timeout_ms / 4000 < 1 ? (double)q->timeout_ms / 4000 : 1;
    *job = -1;
    for (;;) {
        TRY(ts_cli_stopped(b->c));
        TRY(claim_silent(b, job));
        if (*job < 0) TRY(claim_new(b, job));
        if (*job >= 0) break;
        TRY(send_command(b, &r, false, "XPENDING %s " GROUP, q->name));
        long long left = r->type == REDIS_REPLY_ARRAY && r->elements ? r->element[0]->integer : 0;
        if (!left) break;
        if (!q->waiting)
            ts_screen_note(&b->c->screen, "waiting: %lld row%s at other workers", left,
                           left == 1 ? " is" : "s are");
        q->waiting = true;
        pause_seconds(pause);
    }
done:
    free_reply(&r);
    return st;
}

ts_status ts_queue_count(ts_batch *b)
{
    ts_status st = TS_OK;
    redisReply *known = NULL;
    TRY(send_command(b, &known, false, "HGETALL %s", b->queue->rows));
    if (known->elements) qsort(known->element, known->elements / 2, sizeof(known_row), by_id);
    b->others_done = b->others_failed = 0;
    for (int i = 0; i < b->jobs; i++) {
        const ts_job *j = b->job + i;
        const char *state = j->state == TS_JOB_TODO || j->state == TS_JOB_ELSEWHERE
                                ? known_state(known, j->id)
                                : NULL;
        if (state && !j->lost) b->others_done += !strcmp(state, "done");
        if (state) b->others_failed += !strcmp(state, "failed");
    }
    b->others_done -= b->others_done < b->missing ? b->others_done : b->missing;
done:
    free_reply(&known);
    return st;
}

/* ---- the end of a row ---- */
ts_status ts_queue_finish(ts_batch *b, const ts_job *j)
{
    ts_status st = TS_OK;
    ts_queue *q = b->queue;
    redisReply *r = NULL;
    TRY(send_command(b, &r, false, "HSET %s %s %s", q->rows, j->id,
                     j->state == TS_JOB_FAILED ? "failed" : "done"));
    TRY(send_command(b, &r, false, "XACK %s " GROUP " %s", q->name, q->claim));
    set_claim(q, "");
done:
    free_reply(&r);
    return st;
}
