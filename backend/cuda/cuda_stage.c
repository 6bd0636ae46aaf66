/* What passes between the host's memory and the device's, and when.
 *
 * Uploads go through two pinned halves: the host fills one while the queue copies from the other,
 * so the caller's bytes are free when the call returns. What goes ahead is begun by the streams
 * themselves (a host function copies into pinned memory, then the copy engine works), one stream a
 * half, so that one reads the host's memory while the other feeds the device; the caller's bytes
 * are read until the `wait`. Numbers that are stored in another form than they are wanted in are
 * cast on the device. Downloads join. */
#include "backend/cuda/cuda.h"

#include <stdlib.h>
#include <string.h>

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

static ts_status open_stage(ts_cuda *c, ts_cuda_stage *s, size_t half)
{
    ts_status st = TS_OK;
    s->half = half;
    for (int i = 0; i < TS_CUDA_HALVES; i++) {
        TRY(ts_cuda_result(c, cudaHostAlloc((void **)&s->pinned[i], half, cudaHostAllocDefault),
                           "taking pinned memory"));
        TRY(ts_cuda_take(c, half, "copies", ts_cuda_others, s->raw + i));
        TRY(ts_cuda_result(c, cudaEventCreateWithFlags(s->free + i, cudaEventDisableTiming),
                           "making an event"));
    }
done:
    return st;
}

static void close_stage(ts_cuda_stage *s)
{
    for (int i = 0; i < TS_CUDA_HALVES; i++) {
        if (s->pinned[i]) cudaFreeHost(s->pinned[i]);
        if (s->raw[i]) cudaFree(s->raw[i]);
        if (s->free[i]) cudaEventDestroy(s->free[i]);
    }
}

ts_status ts_cuda_stage_open(ts_cuda *c, size_t half)
{
    ts_status st;
    TRY(open_stage(c, &c->stage, half));
    TRY(open_stage(c, &c->ahead_stage, half));
    TRY(ts_cuda_result(c, cudaHostAlloc(&c->back, half, cudaHostAllocDefault),
                       "taking pinned memory"));
done:
    return st;
}

/* Jobs of tickets up to `last` are done. */
static void free_jobs(ts_cuda *c, uint64_t last)
{
    while (c->jobs && c->jobs->ticket <= last) {
        ts_cuda_job *j = c->jobs;
        c->jobs = j->next;
        free(j);
    }
}

void ts_cuda_stage_close(ts_cuda *c)
{
    free_jobs(c, UINT64_MAX);
    close_stage(&c->stage);
    close_stage(&c->ahead_stage);
    if (c->back) cudaFreeHost(c->back);
}

/* ---- through the queue ---- */
/* Room for up to *bytes that nothing queued still reads: where in which half. */
static ts_status take_room(ts_cuda *c, size_t *bytes, size_t least)
{
    ts_cuda_stage *s = &c->stage;
    s->at = (s->at + 255) & ~(size_t)255;
    if (s->at + smaller(*bytes, least) > s->half) {
        ts_status st = ts_cuda_result(c, cudaEventRecord(s->free[s->now], c->queue), "copying");
        if (st) return st;
        s->used[s->now] = true;
        s->now ^= 1;
        s->at = 0;
        if (s->used[s->now])
            st = ts_cuda_result(c, cudaEventSynchronize(s->free[s->now]), "copying");
        if (st) return st;
    }
    *bytes = smaller(*bytes, s->half - s->at);
    return TS_OK;
}

ts_status ts_cuda_upload(ts_device *d, ts_ptr p, const void *host, size_t bytes)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = TS_OK;
    if (d->counting) return TS_OK;
    for (size_t i = 0, n; i < bytes; i += n) {
        n = bytes - i;
        TRY(take_room(c, &n, 65536));
        char *pinned = c->stage.pinned[c->stage.now] + c->stage.at;
        memcpy(pinned, (const char *)host + i, n);
        TRY(ts_cuda_result(
            c,
            cudaMemcpyAsync(ts_cuda_at(ts_at(p, i)), pinned, n, cudaMemcpyHostToDevice, c->queue),
            "copying to the device"));
        c->stage.at += n;
    }
done:
    return st;
}

/* ---- packing: rows of a matrix from their stored form to the one that is wanted ---- */
typedef struct {
    const ts_weight *to;
    ts_ptr at;
    ts_dtype stored;
    long row;   /* elements of each */
    long inner; /* of them, for each input channel: taps */
} packing;

static packing describe_packing(const ts_host *from, const ts_weight *to, ts_ptr at)
{
    packing p = {.to = to, .at = at, .stored = from->type, .inner = 1};
    p.row = ts_count(to->t) / to->t.dim[0];
    for (int i = 2; i < to->t.nd; i++) p.inner *= to->t.dim[i];
    return p;
}

static bool is_as_stored(const packing *p)
{
    return p->stored == p->to->want.type &&
           (p->to->want.layout != TS_CUDA_TAPS_LAST || p->inner == 1);
}

/* Rows that lie on the device as they were stored: cast into their place, with the taps of a kernel
 * before its channels where that is wanted. */
static cudaError_t cast_stored(const packing *p, const void *raw, long first, long rows,
                               cudaStream_t stream)
{
    long taps = p->to->want.layout == TS_CUDA_TAPS_LAST ? p->inner : 1, channels = p->row / taps;
    size_t size = ts_dtype_size(p->to->want.type);
    ts_copy copy = {.src = {(uintptr_t)raw},
                    .dst = ts_at(p->at, (size_t)(first * p->row) * size),
                    .stype = p->stored,
                    .dtype = p->to->want.type,
                    .nd = 3,
                    .dim = {rows, taps, channels},
                    .ss = {p->row, 1, taps},
                    .ds = {p->row, channels, 1}};
    return ts_cuda_copy(&copy, stream);
}

static ts_status too_wide(ts_cuda *c, size_t row, size_t half)
{
    return ts_fail(c->dev.err, TS_EDEVICE,
                   "pack: a row of %zu bytes, device %s copies at most %zu at a time", row,
                   c->dev.name, half);
}

ts_status ts_cuda_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                       ts_ptr at)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = TS_OK;
    packing p = describe_packing(from, to, at);
    size_t row = (size_t)p.row * ts_dtype_size(from->type);
    long rows = from->nd ? from->dim[0] : 1;
    if (d->counting || !row) return TS_OK;
    if (is_as_stored(&p))
        return ts_cuda_upload(d, ts_at(at, (size_t)first * row), from->data, (size_t)rows * row);
    if (row > c->stage.half) return too_wide(c, row, c->stage.half);
    for (long i = 0, n; i < rows; i += n) {
        size_t bytes = (size_t)(rows - i) * row;
        TRY(take_room(c, &bytes, row));
        n = (long)(bytes / row);
        bytes = (size_t)n * row;
        char *pinned = c->stage.pinned[c->stage.now] + c->stage.at,
             *raw = (char *)c->stage.raw[c->stage.now] + c->stage.at;
        memcpy(pinned, (const char *)from->data + (size_t)i * row, bytes);
        TRY(ts_cuda_result(c, cudaMemcpyAsync(raw, pinned, bytes, cudaMemcpyHostToDevice, c->queue),
                           "copying to the device"));
        TRY(ts_cuda_result(c, cast_stored(&p, raw, first + i, n, c->queue), "casting weights"));
        c->stage.at += bytes;
    }
done:
    return st;
}

/* ---- beside the queue ---- */
static void run_job(void *job)
{
    const ts_cuda_job *j = job;
    memcpy(j->to, j->from, j->bytes);
}

/* After what was queued so far, on both streams. */
static ts_status begin_ahead(ts_cuda *c)
{
    ts_status st;
    TRY(ts_cuda_result(c, cudaEventRecord(c->fence, c->queue), "copying weights"));
    for (int i = 0; i < TS_CUDA_HALVES; i++)
        TRY(ts_cuda_result(c, cudaStreamWaitEvent(c->ahead[i], c->fence, 0), "copying weights"));
done:
    return st;
}

/* Bytes into raw memory of stream `side`, or to `to` at once. */
static ts_status send_ahead(ts_cuda *c, int side, void *to, const void *from, size_t bytes)
{
    ts_cuda_job *j = malloc(sizeof *j), **last = &c->jobs;
    if (!j) return ts_fail(c->dev.err, TS_EMEMORY, "no memory for a copy");
    *j = (ts_cuda_job){NULL, c->tickets + 1, c->ahead_stage.pinned[side], from, bytes};
    while (*last) last = &(*last)->next;
    *last = j;
    ts_status st = ts_cuda_result(c, cudaLaunchHostFunc(c->ahead[side], run_job, j),
                                  "copying weights");
    return st ? st
              : ts_cuda_result(
                    c, cudaMemcpyAsync(to, j->to, bytes, cudaMemcpyHostToDevice, c->ahead[side]),
                    "copying weights");
}

static ts_status end_ahead(ts_cuda *c, ts_ticket *t)
{
    ts_status st;
    cudaEvent_t *e = c->ticket + (c->tickets + 1) % TS_CUDA_TICKETS;
    if (!*e)
        TRY(ts_cuda_result(c, cudaEventCreateWithFlags(e, cudaEventDisableTiming),
                           "making an event"));
    TRY(ts_cuda_result(c, cudaEventRecord(c->beside, c->ahead[1]), "copying weights"));
    TRY(ts_cuda_result(c, cudaStreamWaitEvent(c->ahead[0], c->beside, 0), "copying weights"));
    TRY(ts_cuda_result(c, cudaEventRecord(*e, c->ahead[0]), "copying weights"));
    t->id = ++c->tickets;
done:
    return st;
}

ts_status ts_cuda_upload_ahead(ts_device *d, ts_ptr dst, const void *host, size_t bytes,
                               ts_ticket *t)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = TS_OK;
    *t = (ts_ticket){0};
    if (d->counting || !bytes) return TS_OK;
    TRY(begin_ahead(c));
    for (size_t i = 0, n, side = 0; i < bytes; i += n, side ^= 1) {
        n = smaller(bytes - i, c->ahead_stage.half);
        TRY(send_ahead(c, (int)side, ts_cuda_at(ts_at(dst, i)), (const char *)host + i, n));
    }
    TRY(end_ahead(c, t));
done:
    return st;
}

ts_status ts_cuda_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                             ts_ptr at, ts_ticket *t)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = TS_OK;
    packing p = describe_packing(from, to, at);
    size_t row = (size_t)p.row * ts_dtype_size(from->type), half = c->ahead_stage.half;
    long rows = from->nd ? from->dim[0] : 1;
    *t = (ts_ticket){0};
    if (d->counting || !row || !rows) return TS_OK;
    if (is_as_stored(&p))
        return ts_cuda_upload_ahead(d, ts_at(at, (size_t)first * row), from->data,
                                    (size_t)rows * row, t);
    if (row > half) return too_wide(c, row, half);
    long most = (long)(half / row);
    TRY(begin_ahead(c));
    for (long i = 0, n, side = 0; i < rows; i += n, side ^= 1) {
        void *raw = c->ahead_stage.raw[side];
        n = rows - i < most ? rows - i : most;
        TRY(send_ahead(c, (int)side, raw, (const char *)from->data + (size_t)i * row,
                       (size_t)n * row));
        TRY(ts_cuda_result(c, cast_stored(&p, raw, first + i, n, c->ahead[side]),
                           "casting weights"));
    }
    TRY(end_ahead(c, t));
done:
    return st;
}

/* The host waits, since its bytes are read until then; what was queued goes on meanwhile. */
ts_status ts_cuda_wait(ts_device *d, ts_ticket t)
{
    ts_cuda *c = ts_cuda_of(d);
    if (d->counting || t.id <= c->waited) return TS_OK;
    uint64_t kept = c->tickets >= TS_CUDA_TICKETS ? c->tickets - TS_CUDA_TICKETS + 1 : 1;
    cudaEvent_t e = c->ticket[(t.id < kept ? kept : t.id) % TS_CUDA_TICKETS];
    ts_status st = ts_cuda_result(c, cudaEventSynchronize(e), "copying weights");
    if (st) return st;
    c->waited = t.id < kept ? kept : t.id;
    free_jobs(c, c->waited);
    return TS_OK;
}

/* ---- what joins ---- */
static ts_status report_fault(ts_cuda *c)
{
    const ts_cuda_fault f = *c->seen;
    if (!f.bad_id) return TS_OK;
    ts_status st = ts_cuda_result(
        c, cudaMemsetAsync(&c->fault->bad_id, 0, sizeof f.bad_id, c->queue), "reading");
    return st ? st
              : ts_fail(c->dev.err, TS_ESHAPE, "gather: id %d at %d, the table has %d rows", f.id,
                        f.bad_id - 1, f.rows);
}

ts_status ts_cuda_join(ts_device *d)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st;
    if (d->counting) return TS_OK;
    bool faulty = c->faulty;
    if (faulty)
        TRY(ts_cuda_result(
            c,
            cudaMemcpyAsync(c->seen, c->fault, sizeof *c->seen, cudaMemcpyDeviceToHost, c->queue),
            "reading"));
    c->joins++;
    TRY(ts_cuda_result(c, cudaStreamSynchronize(c->queue), "waiting"));
    c->faulty = false;
    if (faulty) TRY(report_fault(c));
done:
    return st;
}

ts_status ts_cuda_download(ts_device *d, void *host, ts_ptr p, size_t bytes)
{
    ts_cuda *c = ts_cuda_of(d);
    ts_status st = TS_OK;
    if (d->counting) {
        memset(host, 0, bytes);
        return TS_OK;
    }
    for (size_t i = 0, n; i < bytes; i += n) {
        n = smaller(bytes - i, c->stage.half);
        TRY(ts_cuda_result(
            c,
            cudaMemcpyAsync(c->back, ts_cuda_at(ts_at(p, i)), n, cudaMemcpyDeviceToHost, c->queue),
            "copying from the device"));
        TRY(ts_cuda_join(d));
        memcpy((char *)host + i, c->back, n);
    }
done:
    return st;
}

/* ---- moments ---- */
ts_status ts_cuda_mark(ts_device *d, ts_moment *m)
{
    ts_cuda *c = ts_cuda_of(d);
    *m = (ts_moment){0};
    if (d->counting) return TS_OK;
    m->id = ++c->moments;
    long place = (long)((m->id - 1) % TS_MOMENTS);
    long more = place >= c->made ? TS_CUDA_PACE : 0;
    for (long i = 0; i < more && c->made < TS_MOMENTS; i++) {
        ts_status st = ts_cuda_result(c, cudaEventCreateWithFlags(c->moment + c->made, 0),
                                      "making an event");
        if (st) return st;
        c->made++;
    }
    return ts_cuda_result(c, cudaEventRecord(c->moment[place], c->queue), "marking a moment");
}

ts_status ts_cuda_elapsed(ts_device *d, ts_moment from, ts_moment to, double *seconds)
{
    ts_cuda *c = ts_cuda_of(d);
    float ms = 0;
    *seconds = 0;
    if (d->counting || !from.id || !to.id) return TS_OK;
    ts_status st = ts_cuda_result(c,
                                  cudaEventElapsedTime(&ms, c->moment[(from.id - 1) % TS_MOMENTS],
                                                       c->moment[(to.id - 1) % TS_MOMENTS]),
                                  "measuring");
    *seconds = (double)ms * 1e-3;
    return st;
}
