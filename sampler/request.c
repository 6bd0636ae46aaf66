/* What was asked for: checked, and rounded to what the model can do. */
#include "backend/number.h"
#include "sampler/bins.h"
#include "sampler/images.h"
#include "sampler/loras.h"
#include "sampler/run.h"
#include "sampler/tessera-bench.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SIDE = 16384, MAX_FRAMES = 100000 };

/* Members that this library does not know are 0. */
void ts_request_init_sized(ts_model *m, ts_request *q, size_t size)
{
    const ts_defaults *d = &m->def;
    const ts_request all = {.size = size,
                            .prompt = "",
                            .negative = d->negative,
                            .width = d->width,
                            .height = d->height,
                            .frames = d->frames,
                            .count = 1,
                            .strength = 1,
                            .fps = d->fps,
                            .steps = d->steps,
                            .guidance = d->guidance,
                            .guidance_2 = d->guidance_2,
                            .seed = 42,
                            .scale = d->scale,
                            .vae_tile = "auto",
                            .attention = "dense",
                            .cache_steps = "none",
                            .timesteps = "default"};
    memset(q, 0, size);
    memcpy(q, &all, size < sizeof all ? size : sizeof all);
}

ts_status ts_request_read(ts_model *m, const ts_request *q, ts_request *out)
{
    ts_request_init(m, out);
    if (!q) return ts_fail(&m->ctx->err, TS_EUSAGE, "no request: begin with ts_request_init");
    if (q->size < offsetof(ts_request, prompt) || q->size > sizeof *out)
        return ts_fail(&m->ctx->err, TS_EUSAGE,
                       "a request of %zu bytes, this library (%s) knows %zu: begin with "
                       "ts_request_init, or take the library that the program was built for",
                       q->size, ts_version(), sizeof *out);
    memcpy(out, q, q->size);
    return TS_OK;
}

static char *copy(const char *s) { return s ? strdup(s) : NULL; }

/* Down to a multiple, as the reference pipelines do, but never to nothing. */
static int rounded(int x, int unit) { return x < unit ? unit : x / unit * unit; }

static ts_status check_numbers(ts_err *e, const ts_request *q)
{
    if (q->width < 1 || q->width > MAX_SIDE || q->height < 1 || q->height > MAX_SIDE)
        return ts_fail(e, TS_EUSAGE, "size %dx%d: each side must be 1 to %d pixels", q->width,
                       q->height, MAX_SIDE);
    if (q->frames < 1 || q->frames > MAX_FRAMES)
        return ts_fail(e, TS_EUSAGE, "%d frames: must be 1 to %d", q->frames, MAX_FRAMES);
    if (q->steps < 1 || q->steps > TS_MAX_STEPS)
        return ts_fail(e, TS_EUSAGE, "%d steps: must be 1 to %d", q->steps, TS_MAX_STEPS);
    if (!(q->fps > 0 && q->fps <= 1000))
        return ts_fail(e, TS_EUSAGE, "%g frames a second: must be more than 0, at most 1000",
                       q->fps);
    if (!(fabs(q->guidance) <= 1000 && fabs(q->guidance_2) <= 1000))
        return ts_fail(e, TS_EUSAGE, "guidance %g, %g: must be -1000 to 1000", q->guidance,
                       q->guidance_2);
    if (!(q->shift >= 0 && q->shift <= 1000))
        return ts_fail(e, TS_EUSAGE, "shift %g: must be more than 0, at most 1000", q->shift);
    if (q->scale < 1 || q->scale > 64)
        return ts_fail(e, TS_EUSAGE, "scale %d: must be 1 to 64", q->scale);
    if (q->count < 1 || q->count > TS_MOST_PICTURES)
        return ts_fail(e, TS_EUSAGE, "%d pictures at once: must be 1 to %d", q->count,
                       TS_MOST_PICTURES);
    return TS_OK;
}

/* Pictures: drawn at the nearest size of the model's list and resized to what was asked for, or at
 * a size that the patches allow. */
static void size_pictures(ts_run *r)
{
    ts_model *m = r->m;
    ts_request *q = &r->q;
    int s = m->vae_info.stride, tw = s * m->dit_info.patch[2], th = s * m->dit_info.patch[1],
        w = q->width, h = q->height;
    bool binned = m->family->bins && !q->no_bins && ts_bin(m->dit_info.sample_size, &w, &h);
    int drawn_w = rounded(w, tw), drawn_h = rounded(h, th);
    if (binned && (drawn_w != q->width || drawn_h != q->height))
        ts_warn(r->ctx,
                "size %dx%d is drawn as %dx%d, the nearest that the model was trained on, and "
                "resized: `no_bins` draws it as it is",
                q->width, q->height, drawn_w, drawn_h);
    if (!binned && (drawn_w != w || drawn_h != h)) {
        ts_warn(r->ctx, "size %dx%d becomes %dx%d: the model draws multiples of %dx%d", w, h,
                drawn_w, drawn_h, tw, th);
        q->width = drawn_w;
        q->height = drawn_h;
    }
    r->pictures = q->count;
    long latent[4] = {m->vae_info.channels, q->count, drawn_h / s, drawn_w / s};
    memcpy(r->latent, latent, sizeof latent);
    r->grid = ts_grid_of(1, (int)latent[2] / m->dit_info.patch[1],
                         (int)latent[3] / m->dit_info.patch[2]);
}

/* Positions that were learned are of one size, and of one length. */
static ts_status check_learned_size(ts_run *r)
{
    const ts_dit_info *d = &r->m->dit_info;
    int s = r->m->vae_info.stride;
    if (!d->fixed) return TS_OK;
    if (r->latent[2] != d->clip[1] || r->latent[3] != d->clip[2])
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "size %dx%d: this model has learned where things are in clips of %dx%d, "
                       "and draws no others",
                       r->q.width, r->q.height, d->clip[2] * s, d->clip[1] * s);
    if (r->latent[1] != d->clip[0])
        ts_warn(r->ctx,
                "%d frames: this model has learned places in clips of %d frames; in others it has "
                "to do with computed ones",
                r->q.frames, (d->clip[0] - 1) * r->m->vae_info.time_stride + 1);
    return TS_OK;
}

static ts_status round_size(ts_run *r)
{
    ts_model *m = r->m;
    ts_request *q = &r->q;
    int tw = m->vae_info.stride * m->dit_info.patch[2],
        th = m->vae_info.stride * m->dit_info.patch[1], stride = m->vae_info.time_stride,
        tf = stride * (m->vae_info.time_step ? m->vae_info.time_step : 1);
    int w = rounded(q->width, tw), h = rounded(q->height, th), f = q->frames / tf * tf + 1;
    if (w != q->width || h != q->height)
        ts_warn(r->ctx, "size %dx%d becomes %dx%d: the model draws multiples of %dx%d", q->width,
                q->height, w, h, tw, th);
    if (m->family->cuts_frames) f = q->frames;
    int groups = (f + stride - 2) / stride + 1, pt = m->dit_info.patch[0];
    r->padding = 0;
    if (groups % pt && m->family->pads_latents) {
        r->padding = pt - groups % pt;
        groups += r->padding;
    } else if (groups % pt) {
        groups = rounded(groups, pt);
        f = (groups - 1) * stride + 1;
    }
    if (f != q->frames)
        ts_warn(r->ctx, "%d frames become %d: the model draws a multiple of %d and one", q->frames,
                f, tf);
    q->width = w;
    q->height = h;
    q->frames = f;
    long latent[4] = {m->vae_info.channels, groups, h / m->vae_info.stride, w / m->vae_info.stride};
    memcpy(r->latent, latent, sizeof latent);
    r->grid = ts_grid_of(groups / pt, (int)latent[2] / m->dit_info.patch[1],
                         (int)latent[3] / m->dit_info.patch[2]);
    return check_learned_size(r);
}

ts_status ts_attention_check(ts_ctx *c, const char *policy)
{
    ts_policy p;
    if (!policy) return ts_fail(&c->err, TS_EUSAGE, "ts_attention_check: no policy");
    return ts_policy_parse(&c->err, policy, &p);
}

int ts_bench_frames(const ts_model *m)
{
    return m->def.bench_frames ? m->def.bench_frames : m->def.frames;
}

ts_status ts_cache_check(ts_ctx *c, const char *method)
{
    ts_cache_wish w;
    if (!method) return ts_fail(&c->err, TS_EUSAGE, "ts_cache_check: no method");
    return ts_cache_parse(&c->err, method, &w);
}

/* Its full path, so that what files record is found from any folder; as it is, where that can not
 * be said in a policy. */
static void complete_path(ts_policy *p)
{
    char *full = *p->file ? realpath(p->file, NULL) : NULL;
    if (full && strlen(full) < sizeof p->file && !strchr(full, ',')) strcpy(p->file, full);
    free(full);
}

/* The policy, and its text with every key: what files record stays the same when a default, or what
 * auto stands for, changes. The grid is known. */
static ts_status read_attention(ts_run *r)
{
    ts_status st = ts_policy_parse(&r->ctx->err, r->q.attention, &r->policy);
    if (st) return st;
    if (r->policy.kind == TS_AUTO)
        ts_policy_recommend(&r->policy, &r->grid, r->q.steps, &r->advice);
    complete_path(&r->policy);
    ts_policy_settle(&r->policy, r->q.steps);
    free((char *)r->q.attention);
    r->q.attention = ts_policy_text(&r->policy);
    return r->q.attention ? TS_OK : ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a request");
}

static ts_status read_cache(ts_run *r)
{
    ts_status st = ts_cache_parse(&r->ctx->err, r->q.cache_steps, &r->cache_wish);
    if (st) return st;
    free((char *)r->q.cache_steps);
    r->q.cache_steps = ts_cache_text(&r->cache_wish);
    return r->q.cache_steps ? TS_OK : ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a request");
}

/* What only pictures, or only clips, can have. */
static ts_status check_kind(ts_run *r)
{
    const ts_family *f = r->m->family;
    if (f->pictures && r->q.frames > 1)
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "%d frames: this model draws pictures, `count` %d draws so many",
                       r->q.frames, r->q.frames);
    if (!f->pictures && r->q.init)
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       f->image ? "a picture to begin with: this model makes clips, `image` gives "
                                  "their first frame"
                                : "a picture to begin with: this model makes clips and begins with "
                                  "noise");
    if (r->q.init && !(r->q.strength > 0 && r->q.strength <= 1))
        return ts_fail(&r->ctx->err, TS_EUSAGE, "strength %g: must be more than 0, at most 1",
                       r->q.strength);
    if (!f->pictures && r->q.count > 1)
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "%d pictures at once: this model makes clips, one at a time", r->q.count);
    if (r->q.dynamic_guidance && !f->dynamic_guidance)
        return ts_fail(&r->ctx->err, TS_EUSAGE,
                       "`dynamic_guidance`: models of CogVideoX have it, this one has not");
    if (f->diffusion && r->q.shift > 0)
        ts_warn(r->ctx, "shift %g has no effect: this model's timetable has none", r->q.shift);
    return TS_OK;
}

/* Sizes far from those that the model was trained at show nothing: where it says which these are.
 */
static void warn_of_size(ts_run *r)
{
    static const double MOST = 1.35, LEAST = 0.5, LONGER = 4;
    const ts_defaults *d = &r->m->def;
    double trained = (double)d->trained_width * d->trained_height,
           area = (double)r->q.width * r->q.height / trained;
    if (trained > 0 && (area > MOST || area < LEAST))
        ts_warn(r->ctx,
                "%dx%d has %.1f times the pixels of %dx%d, which this model was trained at: expect "
                "pictures without their subject%s",
                r->q.width, r->q.height, area, d->trained_width, d->trained_height,
                area > 1 && r->q.frames > 1 ? "; more frames do no harm" : "");
    if (d->trained_frames && r->q.frames > LONGER * d->trained_frames)
        ts_warn(r->ctx,
                "%d frames: this model was trained on %d, expect a subject that changes on the way",
                r->q.frames, d->trained_frames);
}

static ts_status refuse_timesteps(ts_run *r)
{
    return ts_fail(
        &r->ctx->err, TS_EUSAGE,
        "timesteps \"%.60s\": must be default, trailing, or at most %d numbers from 1000 "
        "down to more than 0, such as 1000,750,500,250",
        r->q.timesteps, TS_MAX_STEPS);
}

/* "1000,750,500,250" */
static ts_status read_timesteps(ts_run *r, double t[TS_MAX_STEPS], int *n)
{
    const char *s = r->q.timesteps;
    for (*n = 0; *s; s += *s == ',') {
        if (*n == TS_MAX_STEPS || !ts_number_prefix(s, t + *n, &s) || (*s && *s != ',') ||
            !(t[*n] > 0 && t[*n] <= 1000) || (*n && !(t[*n] < t[*n - 1])) || (*s == ',' && !s[1]))
            return refuse_timesteps(r);
        (*n)++;
    }
    return *n ? TS_OK : refuse_timesteps(r);
}

static ts_status make_flow_schedule(ts_run *r, ts_solver_kind kind)
{
    ts_status st = TS_OK;
    double t[TS_MAX_STEPS];
    int n = r->q.steps;
    bool usual = !strcmp(r->q.timesteps, "default");
    if (usual && !r->m->family->trailing) {
        ts_schedule_init(&r->schedule, kind, n, r->q.shift);
        return TS_OK;
    }
    if (usual || !strcmp(r->q.timesteps, "trailing"))
        for (int i = 0; i < n; i++) t[i] = 1000 - 1000.0 * i / n;
    else
        TRY(read_timesteps(r, t, &n));
    r->q.steps = n;
    ts_schedule_of(&r->schedule, kind, n, r->q.shift, t);
done:
    return st;
}

static ts_status make_schedule(ts_run *r)
{
    char names[80];
    ts_solver_kind kind;
    bool flow = !r->m->family->diffusion;
    if (!ts_solver_named(r->q.sampler, flow, &kind, names))
        return ts_fail(&r->ctx->err, TS_EUSAGE, "sampler %s: must be %s for this model",
                       r->q.sampler, names);
    if (!flow && r->q.init && kind != TS_LCM && (int)(r->q.steps * r->q.strength) < 1)
        ts_warn(r->ctx, "strength %g of %d steps is less than a step: one is run, as of %.2g",
                r->q.strength, r->q.steps, ceil(100.0 / r->q.steps) / 100);
    if (!flow && strcmp(r->q.timesteps, "default") != 0)
        ts_warn(r->ctx, "timesteps %s have no effect: this model's timetable is its own",
                r->q.timesteps);
    if (!flow)
        return ts_schedule_diffusion(&r->ctx->err, &r->schedule, kind, r->q.steps,
                                     r->q.init ? r->q.strength : 1, &r->m->diffusion);
    return make_flow_schedule(r, kind);
}

/* Full paths, so that a request means the same wherever it is repeated. */
static ts_status normalize_loras(ts_run *r, const char *text)
{
    ts_lora_wish *w;
    int n;
    ts_status st = ts_lora_wishes_read(&r->ctx->err, text, &w, &n);
    r->q.loras = NULL;
    if (st || n == 0) {
        if (!st) ts_lora_wishes_free(w, n);
        return st;
    }
    for (int i = 0; i < n; i++) {
        char *full = realpath(w[i].path, NULL);
        if (!full) continue; /* opening it says what is wrong */
        free(w[i].path);
        w[i].path = full;
    }
    r->q.loras = ts_lora_wishes_text(w, n);
    ts_lora_wishes_free(w, n);
    return r->q.loras ? TS_OK : ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for a request");
}

int ts_run_frames(const ts_run *r) { return r->pictures ? r->pictures : r->q.frames; }

ts_status ts_request_check(ts_run *r, const ts_request *q)
{
    ts_status st = TS_OK;
    ts_request asked;
    TRY(ts_request_read(r->m, q, &asked));
    r->q = asked;
    r->q.own = NULL;
    r->q.prompt = copy(asked.prompt ? asked.prompt : "");
    r->q.negative = copy(asked.negative ? asked.negative : "");
    r->q.sampler = copy(asked.sampler ? asked.sampler : ts_solver_name(r->m->solver));
    r->q.vae_tile = copy(asked.vae_tile ? asked.vae_tile : "auto");
    r->q.attention = copy(asked.attention ? asked.attention : "dense");
    r->q.cache_steps = copy(asked.cache_steps ? asked.cache_steps : "none");
    r->q.state = copy(asked.state);
    r->q.noise_file = copy(asked.noise_file);
    r->q.init = copy(asked.init);
    r->q.timesteps = copy(asked.timesteps ? asked.timesteps : "default");
    TRY(normalize_loras(r, asked.loras));
    r->q.image = copy(asked.image);
    r->q.last_image = copy(asked.last_image);
    TRY(check_numbers(&r->ctx->err, &r->q));
    TRY(ts_attention_check(r->ctx, r->q.attention));
    TRY(read_cache(r));
    TRY(check_kind(r));
    if (r->q.shift == 0) r->q.shift = r->m->shift;
    if (r->m->family->pictures)
        size_pictures(r);
    else
        TRY(round_size(r));
    TRY(read_attention(r));
    warn_of_size(r);
    TRY(make_schedule(r));
    for (r->low = r->q.steps;
         r->m->boundary > 0 && r->low > 0 && r->schedule.t[r->low - 1] < r->m->boundary * 1000;)
        r->low--;
    bool guided = r->q.guidance > 1 || (r->low < r->q.steps && r->q.guidance_2 > 1);
    r->branches = guided && !r->m->family->told_guidance ? 2 : 1;
done:
    return st;
}

void ts_request_release(ts_run *r)
{
    const char *s[] = {r->q.prompt,      r->q.negative, r->q.sampler,    r->q.vae_tile,
                       r->q.attention,   r->q.state,    r->q.noise_file, r->q.init,
                       r->q.cache_steps, r->q.loras,    r->q.timesteps,  r->q.image,
                       r->q.last_image};
    for (size_t i = 0; i < sizeof s / sizeof *s; i++) free((char *)s[i]);
}

int ts_run_steps(const ts_run *r) { return r->q.steps - r->schedule.first; }

double ts_guidance_at(const ts_run *r, int step)
{
    double g = step >= r->low ? r->q.guidance_2 : r->q.guidance, n = r->q.steps;
    if (!r->q.dynamic_guidance) return g;
    return 1 + g * (1 - cos(M_PI * pow((n - r->schedule.t[step]) / n, 5))) / 2;
}

bool ts_run_seeded(const ts_run *r, bool given)
{
    return !given || (ts_solver_draws(r->schedule.kind) && !r->step_noise) ||
           (ts_images_drawn(r) && !r->image_noise);
}
