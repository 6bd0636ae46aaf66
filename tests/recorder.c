#include "tests/recorder.h"

static ts_device *device;
static const ts_ops *real;
static ts_ops table;
static recorded now;

static int is_real(const ts_device *d) { return !d->counting; }

static ts_status note_alloc(ts_device *d, size_t n, ts_ptr *p)
{
    now.allocs += is_real(d);
    return real->alloc(d, n, p);
}
static void note_release(ts_device *d, ts_ptr p)
{
    now.frees += is_real(d);
    real->free(d, p);
}
static ts_status note_upload(ts_device *d, ts_ptr p, const void *host, size_t n)
{
    now.uploads += is_real(d);
    return real->upload(d, p, host, n);
}
static ts_status note_pack(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                           ts_ptr at)
{
    now.uploads += is_real(d);
    return real->pack(d, from, first, to, at);
}
static ts_status note_upload_ahead(ts_device *d, ts_ptr p, const void *host, size_t n, ts_ticket *t)
{
    now.ahead += is_real(d);
    return real->upload_ahead(d, p, host, n, t);
}
static ts_status note_pack_ahead(ts_device *d, const ts_host *from, long first, const ts_weight *to,
                                 ts_ptr at, ts_ticket *t)
{
    now.ahead += is_real(d);
    return real->pack_ahead(d, from, first, to, at, t);
}
static ts_status note_download(ts_device *d, void *host, ts_ptr p, size_t n)
{
    now.downloads += is_real(d);
    now.joins += is_real(d);
    return real->download(d, host, p, n);
}
static ts_status note_join(ts_device *d)
{
    now.joins += is_real(d);
    return real->join(d);
}
static ts_status note_checked(ts_device *d, int *tag)
{
    now.checks += is_real(d);
    now.joins += is_real(d);
    return real->checked(d, tag);
}
static ts_status note_mark_time(ts_device *d, ts_moment *m)
{
    now.marks += is_real(d);
    return real->mark(d, m);
}

void recorder_begin(ts_ctx *c)
{
    ck_assert_ptr_null(device);
    device = c->dev;
    real = device->ops;
    table = *real;
    table.alloc = note_alloc;
    table.free = note_release;
    table.upload = note_upload;
    table.pack = note_pack;
    table.upload_ahead = note_upload_ahead;
    table.pack_ahead = note_pack_ahead;
    table.download = note_download;
    table.join = note_join;
    table.checked = note_checked;
    table.mark = note_mark_time;
    device->ops = &table;
    now = (recorded){0};
}

recorded recorder_so_far(void) { return now; }

recorded recorder_between(recorded from, recorded to)
{
    return (recorded){.joins = to.joins - from.joins,
                      .checks = to.checks - from.checks,
                      .downloads = to.downloads - from.downloads,
                      .uploads = to.uploads - from.uploads,
                      .ahead = to.ahead - from.ahead,
                      .allocs = to.allocs - from.allocs,
                      .frees = to.frees - from.frees,
                      .marks = to.marks - from.marks};
}

void recorder_end(void)
{
    if (device) device->ops = real;
    device = NULL;
}
