/* Images -> conditions, as diffusers' pipeline_wan_i2v.py, pipeline_wan.py and
 * pipeline_cogvideox_image2video.py make them:
 *
 *   beside  [mask; latents], C' = time stride + C channels: latents of a clip that is the image in
 *           its first frame (and the other in its last) and zeros between; the mask is 1 where a
 *           frame is given, a channel a frame of those that one latent stands for, the first
 *           frame counted as often as it takes to fill the first latent
 *   states  of the image encoder, which sees the images as they were given
 *   drawn   [latents], C' = C channels: mean + deviation x noise of the image alone beside the
 *           clip's first ones, zeros beside the others, those before the clip among them
 *   kept    the latents of the image alone, in the place of the clip's first ones
 */
#include "sampler/images.h"

#include "backend/hash.h"
#include "backend/philox.h"
#include "codecs/picture_resize.h"
#include "sampler/encode.h"
#include "sampler/latents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[TS_IMAGES] = {[TS_FIRST] = "image", [TS_LAST] = "last image"};

static const char *asked(const ts_run *r, int i) { return i ? r->q.last_image : r->q.image; }

static int count_asked(const ts_run *r)
{
    return (asked(r, TS_FIRST) != NULL) + (asked(r, TS_LAST) != NULL);
}

bool ts_images_drawn(const ts_run *r)
{
    return r->m->family->image == TS_IMAGE_DRAWN && asked(r, TS_FIRST);
}

bool ts_images_kept(const ts_run *r)
{
    return r->m->family->image == TS_IMAGE_KEPT && asked(r, TS_FIRST);
}

/* ---- what a model takes ---- */

void ts_model_images(const ts_model *m, int *least, int *most)
{
    *least = *most = 0;
    if (m->family->image == TS_IMAGE_NONE) return;
    long places = m->dit_info.picture_rows;
    *least = m->family->needs_image;
    *most = m->family->image == TS_IMAGE_BESIDE ? 2 : 1;
    if (m->dit_info.picture_dim) *least = *most = places ? 2 : 1;
}

static ts_status refuse_images(ts_run *r, const char *sentence)
{
    return ts_fail(&r->ctx->err, TS_EUSAGE, "%s", sentence);
}

ts_status ts_images_check(ts_run *r)
{
    int least, most;
    bool first = asked(r, TS_FIRST), last = asked(r, TS_LAST);
    ts_model_images(r->m, &least, &most);
    if (!most && (first || last))
        return refuse_images(r, r->m->family->pictures
                                    ? "an image: this model makes pictures, which begin with "
                                      "`init` or with noise alone"
                                    : "an image: this model makes clips of text alone");
    if (least && !first)
        return refuse_images(r, "no image: this model makes clips of one: `image` gives it");
    if (last && !first)
        return refuse_images(r, "a last image without a first one: `image` gives it");
    if (least == 2 && !last)
        return refuse_images(r, "no last image: this model makes clips between two: `last_image` "
                                "gives it");
    if (last && most == 1 && r->m->family->image == TS_IMAGE_KEPT)
        return refuse_images(r, "a last image: this model keeps the first frame of a clip alone");
    if (last && most == 1 && r->m->family->image == TS_IMAGE_DRAWN)
        return refuse_images(r,
                             "a last image: this model is given the first frame of a clip alone");
    if (last && most == 1)
        return refuse_images(r, "a last image: this model has places for the states of one image "
                                "(pos_embed_seq_len of its transformer is null)");
    if (last && r->q.frames < 2)
        return refuse_images(r, "a last image: a clip of 1 frame ends with its first");
    return TS_OK;
}

ts_status ts_request_fit_image(ts_model *m, ts_request *q)
{
    ts_status st = TS_OK;
    ts_picture p = {0};
    ts_err *err = &m->ctx->err;
    int s = m->vae_info.stride, uw = s * m->dit_info.patch[2], uh = s * m->dit_info.patch[1];
    double area = (double)m->def.width * m->def.height, aspect;
    if (!q || q->size < offsetof(ts_request, last_image))
        return ts_fail(err, TS_EUSAGE, "ts_request_fit_image: no request with an image");
    if (!q->image) return TS_OK;
    if (m->dit_info.fixed) {
        q->width = m->def.width;
        q->height = m->def.height;
        return TS_OK;
    }
    if (!strcmp(q->image, "-"))
        return ts_fail(err, TS_EUSAGE,
                       "the image is standard input, which can be read once: a size is needed, "
                       "or a file");
    TRY(ts_picture_read_colours(err, q->image, &p));
    aspect = (double)p.h / p.w;
    q->width = (int)rint(sqrt(area / aspect)) / uw * uw;
    q->height = (int)rint(sqrt(area * aspect)) / uh * uh;
    if (q->width < uw) q->width = uw;
    if (q->height < uh) q->height = uh;
done:
    ts_picture_free(&p);
    return st;
}

/* ---- reading ---- */

/* What is needed of it: the frame, and what the encoder sees. */
static ts_status take_image(ts_run *r, int i, const ts_picture *p)
{
    ts_status st = TS_OK;
    ts_err *err = &r->ctx->err;
    const ts_clip_vision_info *v = &r->m->vision;
    int s = r->m->vae_info.stride, w = (int)r->latent[3] * s, h = (int)r->latent[2] * s;
    int64_t side[2] = {p->w, p->h};
    ts_picture frame;
    if (r->m->dit_info.picture_dim && !r->image[i].seen) {
        r->image[i].seen = malloc((size_t)v->image * (size_t)v->image * 3 * sizeof(float));
        if (!r->image[i].seen) TRY(ts_fail(err, TS_EMEMORY, "no memory for the %s", names[i]));
    }
    if (r->image[i].seen) TRY(ts_clip_vision_pixels(err, v, p, r->image[i].seen));
    TRY(ts_picture_resize(err, p, w, h, TS_FILTER_LANCZOS, &frame));
    ts_picture_free(&r->image[i].frame);
    r->image[i].frame = frame;
    r->image[i].hash = ts_hash(ts_hash(TS_HASH, side, sizeof side), p->rgb,
                               (size_t)p->w * (size_t)p->h * 3);
done:
    return st;
}

static ts_status check_place(ts_run *r, bool last)
{
    if (asked(r, last)) return TS_OK;
    return ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_image: the request names no %s", names[last]);
}

ts_status ts_run_image(ts_run *r, const char *path, bool last)
{
    ts_status st = TS_OK;
    ts_picture p = {0};
    TRY(check_place(r, last));
    if (!path) TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_image: no path of an image"));
    TRY(ts_picture_read_colours(&r->ctx->err, path, &p));
    TRY(take_image(r, last, &p));
done:
    ts_picture_free(&p);
    return st;
}

ts_status ts_run_image_rgb(ts_run *r, int w, int h, const uint8_t *rgb, bool last)
{
    ts_status st = TS_OK;
    enum { MOST = 1 << 28 }; /* pixels, as of a file */
    TRY(check_place(r, last));
    if (!rgb || w < 1 || h < 1 || (int64_t)w * h > MOST)
        TRY(ts_fail(&r->ctx->err, TS_EUSAGE, "ts_run_image_rgb: %s of %dx%d",
                    rgb ? "an image" : "no pixels", w, h));
    TRY(take_image(r, last, &(ts_picture){.w = w, .h = h, .rgb = (uint8_t *)rgb}));
done:
    return st;
}

/* ---- room ---- */

static size_t count_image_states(const ts_run *r)
{
    return (size_t)count_asked(r) * (size_t)ts_clip_vision_rows(&r->m->vision) *
           (size_t)r->m->vision.width;
}

ts_status ts_images_room(ts_run *r)
{
    const long *l = r->latent;
    size_t cells = (size_t)(l[1] * l[2] * l[3]);
    if (!r->m->dit_info.beside) return TS_OK;
    r->beside = calloc((size_t)r->m->dit_info.beside * cells, sizeof(float));
    if (r->m->dit_info.picture_dim) r->seen = calloc(count_image_states(r), sizeof(float));
    if (r->beside && (r->seen || !r->m->dit_info.picture_dim)) return TS_OK;
    return ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for latents of %ldx%ldx%ld", l[1], l[2],
                   l[3]);
}

void ts_images_close(ts_run *r)
{
    for (int i = 0; i < TS_IMAGES; i++) {
        ts_picture_free(&r->image[i].frame);
        free(r->image[i].seen);
    }
    free(r->beside);
    free(r->seen);
    if (ts_there(r->kept)) r->ctx->dev->ops->free(r->ctx->dev, r->kept.p);
}

/* ---- encoding ---- */

/* Does the image go through the VAE alone? Else a clip with it. */
static bool is_alone(const ts_run *r) { return ts_images_kept(r) || ts_images_drawn(r); }

static long count_frames(const ts_run *r) { return is_alone(r) ? 1 : r->q.frames; }

static void put_image(const ts_picture *p, float *to)
{
    size_t n = (size_t)p->w * (size_t)p->h * 3;
    for (size_t i = 0; i < n; i++) to[i] = 2 * ((float)p->rgb[i] / 255) - 1;
}

/* host [frames, H, W, 3], which is large; pages of it that stay zero take no memory */
static ts_status make_clip(ts_run *r, ts_host *out)
{
    int s = r->m->vae_info.stride;
    long F = count_frames(r), H = r->latent[2] * s, W = r->latent[3] * s;
    size_t frame = (size_t)(H * W * 3);
    float *px = calloc((size_t)F * frame, sizeof *px);
    if (!px)
        return ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for %ld frames of %ldx%ld", F, W, H);
    if (r->image[TS_FIRST].frame.rgb) put_image(&r->image[TS_FIRST].frame, px);
    if (r->image[TS_LAST].frame.rgb)
        put_image(&r->image[TS_LAST].frame, px + (size_t)(F - 1) * frame);
    *out = (ts_host){px, TS_F32, 4, {F, H, W, 3}};
    return TS_OK;
}

/* Of what make_clip has made: C F H W, with the variances of what is drawn. */
static void shape_latents(const ts_run *r, long latent[4])
{
    memcpy(latent, r->latent, sizeof r->latent);
    if (is_alone(r)) latent[1] = 1;
    if (ts_images_drawn(r)) latent[0] *= 2;
}

static void make_mask(const ts_run *r, float *mask)
{
    const long *l = r->latent;
    long cells = l[2] * l[3], C = r->m->vae_info.time_stride;
    for (long c = 0; c < C; c++)
        for (long f = 0; f < l[1]; f++) {
            bool given = f == 0 || (asked(r, TS_LAST) && f == l[1] - 1 && c == C - 1);
            for (long i = 0; i < cells; i++) mask[(c * l[1] + f) * cells + i] = given;
        }
}

/* The stream of the seed that an image's latents are drawn from: no step's. */
static const uint32_t IMAGE_STREAM = UINT32_MAX;

/* Latents beside the first ones, whether these are decoded or not, of z f32 [1, H, W, 2 C]: mean
 * and logarithm of the variance, which is limited as in the reference. */
static ts_status draw_image(ts_run *r, ts_tensor z)
{
    ts_status st = TS_OK;
    const ts_vae_info *v = &r->m->vae_info;
    const long *l = r->latent;
    long C = l[0], cells = l[2] * l[3];
    size_t n = (size_t)(C * cells);
    float *moments = malloc(2 * n * sizeof *moments), *noise = malloc(n * sizeof *noise);
    if (!moments || !noise) TRY(ts_fail(&r->ctx->err, TS_EMEMORY, "no memory for an image"));
    TRY(ts_latents_download(r->ctx, (long[]){2 * C, 1, l[2], l[3]}, z, moments));
    if (r->image_noise)
        memcpy(noise, r->image_noise, n * sizeof *noise);
    else
        ts_normals(r->q.seed, IMAGE_STREAM, 0, noise, n);
    for (size_t i = 0; i < n; i++) {
        size_t c = i / (size_t)cells, cell = i % (size_t)cells;
        float spread = expf(0.5F * fminf(fmaxf(moments[n + i], -30), 20)),
              x = moments[i] + spread * noise[i];
        r->beside[c * (size_t)(l[1] * cells) + cell] = v->images_as_decoded
                                                           ? x * v->std[c] + v->mean[c]
                                                           : (x - v->mean[c]) / v->std[c];
    }
done:
    free(moments);
    free(noise);
    return st;
}

static ts_status encode_clip(ts_run *r)
{
    ts_status st;
    ts_host pixels = {0};
    long l[4];
    ts_ptr room;
    ts_tensor z = r->kept;
    shape_latents(r, l);
    TRY(make_clip(r, &pixels));
    if (!ts_there(z)) {
        TRY(ts_alloc_for(r->ctx->dev, ts_latents_count(l) * sizeof(float), "an image", &room));
        z = ts_tensor_of(room, TS_F32, TS_DIM(l[1], l[2], l[3], l[0]));
    }
    if (ts_images_kept(r)) r->kept = z;
    TRY(ts_encode(r, pixels, z));
    if (ts_images_drawn(r)) TRY(draw_image(r, z));
    if (!is_alone(r)) {
        float *latents = r->beside + (long)r->m->vae_info.time_stride * l[1] * l[2] * l[3];
        make_mask(r, r->beside);
        TRY(ts_latents_download(r->ctx, l, z, latents));
    }
done:
    if (ts_there(z) && !ts_images_kept(r)) r->ctx->dev->ops->free(r->ctx->dev, z.p);
    free((void *)pixels.data);
    return st;
}

typedef struct {
    ts_run *r;
    ts_clip_vision *encoder;
} seeing;

static ts_status see_images(ts_ctx *c, void *user)
{
    const seeing *s = user;
    const float *pixels[TS_IMAGES];
    (void)c;
    for (int i = 0; i < TS_IMAGES; i++) pixels[i] = s->r->image[i].seen;
    return ts_clip_vision_run(s->encoder, pixels, count_asked(s->r), s->r->seen);
}

/* count: bytes and operations alone; *bytes with weights */
static ts_status run_vision(ts_run *r, bool count, size_t *bytes)
{
    ts_status st;
    ts_ctx *c = r->ctx;
    seeing s = {.r = r};
    size_t largest;
    const ts_component *part = ts_model_dir_part(&r->m->dir, "image_encoder");
    TRY(ts_clip_vision_open(c, &r->m->vision, part->dir, &s.encoder));
    TRY(ts_count_phase(c, see_images, &s, bytes));
    if (!count) {
        TRY(ts_arena_open(&c->arena, c->dev, *bytes));
        TRY(see_images(c, &s));
    }
    ts_weights_packed(ts_clip_vision_weights(s.encoder), &largest);
    *bytes += largest;
done:
    ts_arena_close(&c->arena);
    ts_clip_vision_close(s.encoder);
    return st;
}

ts_status ts_images_count(ts_run *r, size_t *bytes, ts_profile *price)
{
    ts_status st = TS_OK;
    ts_host pixels = {0};
    ts_profile p;
    long l[4];
    size_t vision;
    *bytes = 0;
    if (!count_asked(r)) return TS_OK;
    shape_latents(r, l);
    ts_profile_read(r->ctx->dev, &p, true);
    TRY(make_clip(r, &pixels));
    TRY(ts_encode_count(r, pixels, l, bytes));
    if (r->seen) {
        TRY(run_vision(r, true, &vision));
        if (vision > *bytes) *bytes = vision;
    }
    ts_profile_read(r->ctx->dev, &p, true);
    for (int i = 0; i < TS_TIMES; i++) price->flops[i] += p.flops[i];
done:
    free((void *)pixels.data);
    return st;
}

ts_status ts_images_encode(ts_run *r)
{
    ts_status st = TS_OK;
    size_t bytes;
    for (int i = 0; i < TS_IMAGES; i++)
        if (asked(r, i) && !r->image[i].frame.rgb)
            return ts_fail(&r->ctx->err, TS_EUSAGE,
                           "ts_run_encode: the %s has not been read: ts_run_image comes first",
                           names[i]);
    if (!count_asked(r)) return TS_OK;
    TRY(encode_clip(r));
    if (r->seen) TRY(run_vision(r, false, &bytes));
done:
    return st;
}

/* ---- in the steps ---- */

ts_status ts_images_keep(const ts_run *r, ts_tensor x)
{
    if (!ts_images_kept(r)) return TS_OK;
    ts_tensor first = x;
    first.dim[0] = 1;
    return ts_cast(r->ctx->dev, r->ctx->dev->counting ? first : r->kept, first);
}
