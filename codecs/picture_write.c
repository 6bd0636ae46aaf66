/* What is encoded, animations too, is one packet, which is a whole file but for the text: that is
 * put behind the first two bytes of a JPEG (ITU T.81, B.2.4.5), and makes a simple WebP an extended
 * one (RFC 9649, 2.7).
 *
 * libjpeg's tables are those of T.81, K.1 times s = 50 / Q, above 50 times s = 2 - Q / 50. mjpeg
 * has one of MPEG-1's times a whole number from 1 to 31; at 17 s both sum to the same. */
#include "codecs/picture_write.h"

#include "weights/file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

enum {
    MOST_JPEG = 65500,
    MOST_WEBP = 16383,
    AT_HALF = 17,     /* mjpeg's quantiser at a quality of 50, */
    COARSEST = 31,    /* and its largest */
    SEGMENT = 65533,  /* bytes of text in one of a JPEG, whose length counts itself */
    CHUNK = 8,        /* of RIFF: name and size */
    HEAD = 12,        /* "RIFF", size, "WEBP" */
    EXTENDED = 10,    /* bytes of VP8X */
    MAX_RATE = 65535, /* of either part of the frame rate */
    MOST_BYTES = 1 << 30
};
static const char own_segment[] = "tessera\n"; /* before what is ours in a JPEG's comment */
static const char xmp_head[] =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF "
    "xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" "
    "xmlns:tessera=\"urn:tessera\"><tessera:json>";
static const char xmp_tail[] = "</tessera:json></rdf:Description></rdf:RDF></x:xmpmeta>";

static const char *encoder_name(ts_file_kind kind, int frames)
{
    return kind == TS_FILE_JPEG ? "mjpeg" : frames > 1 ? "libwebp_anim" : "libwebp";
}

ts_status ts_picture_check_encoder(ts_err *err, ts_file_kind kind, const char *name)
{
    if (avcodec_find_encoder_by_name(encoder_name(kind, 1))) return TS_OK;
    return ts_fail(err, TS_EDEVICE,
                   "%s: the FFmpeg library here has no encoder for it, expected %s", name,
                   encoder_name(kind, 1));
}

ts_status ts_picture_check_size(ts_err *err, ts_file_kind kind, const char *name, long w, long h)
{
    int most = kind == TS_FILE_JPEG ? MOST_JPEG : MOST_WEBP;
    if (w <= most && h <= most && av_image_check_size((unsigned)w, (unsigned)h, 0, NULL) >= 0)
        return TS_OK;
    return ts_fail(err, TS_EUSAGE, "%s: %ldx%ld is too large, expected at most %d a side", name, w,
                   h, most);
}

/* ---- encoding ---- */

struct ts_picture_writer {
    ts_picture_options o;
    AVCodecContext *encoder;
    AVFrame *frame;
    AVPacket *packet; /* the file, once the encoder has it whole */
    struct SwsContext *sws;
    int64_t frames;
};

void ts_picture_writer_free(ts_picture_writer *p)
{
    if (!p) return;
    avcodec_free_context(&p->encoder);
    av_frame_free(&p->frame);
    av_packet_free(&p->packet);
    sws_freeContext(p->sws);
    free(p);
}

static ts_status encoding_failed(ts_err *err, const char *name, int code)
{
    char why[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, why, sizeof why);
    return ts_fail(err, code == AVERROR(ENOMEM) ? TS_EMEMORY : TS_EDEVICE,
                   "%s: it can not be encoded: %s", name, why);
}

static int jpeg_quantiser(int quality)
{
    double s = quality < 50 ? 50. / quality : 2 - quality / 50.;
    long q = lrint(AT_HALF * s);
    return q < 1 ? 1 : q > COARSEST ? COARSEST : (int)q;
}

/* 0, or libav's error */
static int open_picture_encoder(ts_picture_writer *p)
{
    const ts_picture_options *o = &p->o;
    bool jpeg = o->kind == TS_FILE_JPEG;
    int quality = o->quality ? o->quality : TS_PICTURE_QUALITY, code;
    const AVCodec *codec = avcodec_find_encoder_by_name(encoder_name(o->kind, o->frames));
    if (!codec) return AVERROR_ENCODER_NOT_FOUND;
    AVCodecContext *c = p->encoder = avcodec_alloc_context3(codec);
    p->frame = av_frame_alloc();
    p->packet = av_packet_alloc();
    if (!c || !p->frame || !p->packet) return AVERROR(ENOMEM);
    c->width = p->frame->width = o->w;
    c->height = p->frame->height = o->h;
    c->pix_fmt = jpeg ? AV_PIX_FMT_YUVJ444P : AV_PIX_FMT_BGRA;
    p->frame->format = c->pix_fmt;
    c->time_base = o->frames > 1 ? av_inv_q(av_d2q(o->fps, MAX_RATE)) : (AVRational){1, 1};
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (jpeg) {
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->qmin = 1;
        c->global_quality = p->frame->quality = jpeg_quantiser(quality) * FF_QP2LAMBDA;
        c->color_range = p->frame->color_range = AVCOL_RANGE_JPEG;
    } else {
        av_opt_set_double(c->priv_data, "quality", quality, 0);
        av_opt_set_int(c->priv_data, "lossless", quality == TS_MOST_QUALITY, 0);
    }
    if ((code = avcodec_open2(c, codec, NULL)) < 0 ||
        (code = av_frame_get_buffer(p->frame, 0)) < 0 || !jpeg)
        return code;
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    p->sws = sws_getContext(o->w, o->h, AV_PIX_FMT_RGB24, o->w, o->h, AV_PIX_FMT_YUVJ444P,
                            SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP,
                            NULL, NULL, NULL);
    if (!p->sws) return AVERROR(ENOMEM);
    sws_setColorspaceDetails(p->sws, bt601, 1, bt601, 1, 0, 1 << 16, 1 << 16);
    return 0;
}

ts_status ts_picture_open(ts_err *err, const ts_picture_options *o, ts_picture_writer **out)
{
    ts_picture_writer *p = *out = calloc(1, sizeof *p);
    if (!p) return ts_fail(err, TS_EMEMORY, "%s: no memory to write it", o->name);
    p->o = *o;
    int code = open_picture_encoder(p);
    if (code >= 0) return TS_OK;
    ts_picture_writer_free(p);
    *out = NULL;
    return encoding_failed(err, o->name, code);
}

static void fill_frame(ts_picture_writer *p, const uint8_t *rgb)
{
    int w = p->o.w, h = p->o.h;
    if (p->sws) {
        const uint8_t *const source[4] = {rgb};
        const int stride[4] = {3 * w};
        sws_scale(p->sws, source, stride, 0, h, p->frame->data, p->frame->linesize);
        return;
    }
    for (int y = 0; y < h; y++) {
        uint8_t *to = p->frame->data[0] + (ptrdiff_t)y * p->frame->linesize[0];
        for (int x = 0; x < w; x++, to += 4, rgb += 3) {
            to[0] = rgb[2];
            to[1] = rgb[1];
            to[2] = rgb[0];
            to[3] = 255;
        }
    }
}

ts_status ts_picture_add(ts_err *err, ts_picture_writer *p, const uint8_t *rgb)
{
    int code = av_frame_make_writable(p->frame);
    if (code >= 0) {
        fill_frame(p, rgb);
        p->frame->pts = p->frames++;
        code = avcodec_send_frame(p->encoder, p->frame);
    }
    return code < 0 ? encoding_failed(err, p->o.name, code) : TS_OK;
}

/* ---- text ---- */

static void put_u32(uint8_t *to, size_t n)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(n >> 8 * i);
}

static size_t read_u32(const uint8_t *b)
{
    return (size_t)b[0] | (size_t)b[1] << 8 | (size_t)b[2] << 16 | (size_t)b[3] << 24;
}

static bool write_comment(FILE *f, const char *text)
{
    size_t left = strlen(text), own = strlen(own_segment);
    bool good = true;
    while (left && good) {
        size_t n = left < SEGMENT - own ? left : SEGMENT - own, length = n + own + 2;
        const uint8_t mark[] = {0xff, 0xfe, (uint8_t)(length >> 8), (uint8_t)length};
        good = fwrite(mark, 1, sizeof mark, f) == sizeof mark &&
               fwrite(own_segment, 1, own, f) == own && fwrite(text, 1, n, f) == n;
        text += n;
        left -= n;
    }
    return good;
}

static bool write_jpeg(FILE *f, const AVPacket *p, const char *text)
{
    /* start of image; then, as JFIF 1.1 has it first: pixels are square, without a thumbnail */
    enum { START = 2 };
    static const uint8_t jfif[] = {0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F',
                                   0,    1,    1,    0,    0, 1,  0,   1,   0,   0};
    if (p->size < START) return false;
    size_t rest = (size_t)p->size - START;
    return fwrite(jfif, 1, sizeof jfif, f) == sizeof jfif && (!text || write_comment(f, text)) &&
           fwrite(p->data + START, 1, rest, f) == rest;
}

/* With what XML can not hold as it is in its place; malloc'd. */
static char *make_xmp(const char *text)
{
    char *all = NULL;
    size_t size;
    FILE *f = open_memstream(&all, &size);
    if (!f) return NULL;
    fputs(xmp_head, f);
    for (; *text; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : NULL;
        if (entity)
            fputs(entity, f);
        else
            fputc(*text, f);
    }
    fputs(xmp_tail, f);
    bool bad = ferror(f);
    if (fclose(f) || bad) {
        free(all);
        return NULL;
    }
    return all;
}

/* With XMP the file begins with VP8X, which says so; one of an animation has it already. */
static bool write_webp(FILE *f, const AVPacket *p, int w, int h, const char *xmp)
{
    enum { HAS_XMP = 4 };
    if (!xmp) return fwrite(p->data, 1, (size_t)p->size, f) == (size_t)p->size;
    if (p->size < HEAD + CHUNK) return false;
    bool extended = p->size >= HEAD + CHUNK + EXTENDED && !memcmp(p->data + HEAD, "VP8X", 4);
    size_t n = strlen(xmp), odd = n & 1, begin = HEAD + (extended ? CHUNK + EXTENDED : 0),
           rest = (size_t)p->size - begin;
    uint8_t head[HEAD + CHUNK + EXTENDED] = "RIFF....WEBPVP8X", tail[CHUNK] = "XMP ";
    put_u32(head + HEAD + 4, EXTENDED);
    for (int i = 0; i < 3; i++) {
        head[HEAD + CHUNK + 4 + i] = (uint8_t)((unsigned)(w - 1) >> 8 * i);
        head[HEAD + CHUNK + 7 + i] = (uint8_t)((unsigned)(h - 1) >> 8 * i);
    }
    if (extended) memcpy(head, p->data, begin);
    head[HEAD + CHUNK] |= HAS_XMP;
    put_u32(head + 4, 4 + CHUNK + EXTENDED + rest + CHUNK + n + odd);
    put_u32(tail + 4, n);
    return fwrite(head, 1, sizeof head, f) == sizeof head &&
           fwrite(p->data + begin, 1, rest, f) == rest &&
           fwrite(tail, 1, sizeof tail, f) == sizeof tail && fwrite(xmp, 1, n, f) == n &&
           (!odd || fputc(0, f) == 0);
}

ts_status ts_picture_finish(ts_err *err, ts_picture_writer *p, const char *path, const char *text)
{
    ts_status st = TS_OK;
    const char *name = p->o.name;
    bool jpeg = p->o.kind == TS_FILE_JPEG;
    char *xmp = NULL;
    FILE *f = NULL;
    int code = avcodec_send_frame(p->encoder, NULL);
    if (code >= 0) code = avcodec_receive_packet(p->encoder, p->packet);
    if (code < 0) TRY(encoding_failed(err, name, code));
    if (text && !jpeg && !(xmp = make_xmp(text)))
        TRY(ts_fail(err, TS_EMEMORY, "%s: no memory to write it", name));
    f = fopen(path, "wbe");
    bool good = f && (jpeg ? write_jpeg(f, p->packet, text)
                           : write_webp(f, p->packet, p->o.w, p->o.h, xmp));
    good = f && !fclose(f) && good;
    if (!good) TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno)));
done:
    free(xmp);
    return st;
}

ts_status ts_picture_write(ts_err *err, const ts_picture_options *o, const char *path,
                           const uint8_t *rgb, const char *text)
{
    ts_picture_writer *p;
    ts_status st = ts_picture_open(err, o, &p);
    if (!st) st = ts_picture_add(err, p, rgb);
    if (!st) st = ts_picture_finish(err, p, path, text);
    ts_picture_writer_free(p);
    return st;
}

/* ---- reading ---- */

/* Comments of ours, one behind the other. */
static bool read_comments(const uint8_t *b, size_t n, FILE *out)
{
    enum { COMMENT = 0xfe, SCAN = 0xda };
    size_t at = 2, own = strlen(own_segment);
    bool found = false;
    while (at + 4 <= n && b[at] == 0xff && b[at + 1] != SCAN) {
        size_t length = (size_t)b[at + 2] << 8 | b[at + 3];
        if (length < 2 || at + 2 + length > n) break;
        const uint8_t *text = b + at + 4;
        if (b[at + 1] == COMMENT && length - 2 >= own && !memcmp(text, own_segment, own)) {
            fwrite(text + own, 1, length - 2 - own, out);
            found = true;
        }
        at += 2 + length;
    }
    return found;
}

static bool read_xmp(const uint8_t *b, size_t n, FILE *out)
{
    size_t at = HEAD, head = strlen(xmp_head), tail = strlen(xmp_tail);
    while (at + CHUNK <= n) {
        size_t length = read_u32(b + at + 4);
        const char *s = (const char *)b + at + CHUNK, *end;
        if (length > n - at - CHUNK) break;
        if (!memcmp(b + at, "XMP ", 4) && length >= head + tail && !memcmp(s, xmp_head, head)) {
            for (end = s + length - tail, s += head; s < end;) {
                bool and = end - s >= 5 && !memcmp(s, "&amp;", 5),
                     less = end - s >= 4 && !memcmp(s, "&lt;", 4);
                fputc(and? '&' : less ? '<' : *s, out);
                s += and? 5 : less ? 4 : 1;
            }
            return true;
        }
        at += CHUNK + length + (length & 1);
    }
    return false;
}

ts_status ts_picture_read_text(ts_err *err, const char *path, char **text)
{
    uint8_t *b = NULL;
    size_t n = 0, size;
    char *all = NULL;
    *text = NULL;
    ts_status st = ts_file_read(err, path, MOST_BYTES, "a picture", &b, &n);
    if (st) return st;
    FILE *f = open_memstream(&all, &size);
    bool found = false;
    if (f && n > 4 && b[0] == 0xff && b[1] == 0xd8) found = read_comments(b, n, f);
    if (f && n > HEAD && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4))
        found = read_xmp(b, n, f);
    if (!f || fclose(f)) st = ts_fail(err, TS_EMEMORY, "%s: no memory for its text", path);
    free(b);
    if (!st && found)
        *text = all;
    else
        free(all);
    return st;
}

/* Frames and their time; 0, when it is no animation. */
static int count_animation(const uint8_t *b, size_t n, ts_movie_facts *out)
{
    enum { FRAME = 16 }; /* bytes of an ANMF before its picture: of these three are milliseconds */
    size_t length;
    for (size_t at = HEAD; at + CHUNK <= n; at += CHUNK + length + (length & 1)) {
        const uint8_t *body = b + at + CHUNK;
        length = read_u32(b + at + 4);
        if (length > n - at - CHUNK) break;
        if (!memcmp(b + at, "VP8X", 4) && length >= EXTENDED) {
            out->w = (int)(read_u32(body + 4) & 0xffffff) + 1;
            out->h = (int)(read_u32(body + 6) >> 8) + 1;
        } else if (!memcmp(b + at, "ANMF", 4) && length >= FRAME) {
            out->frames++;
            out->seconds += (double)(read_u32(body + 12) & 0xffffff) / 1000;
        }
    }
    return (int)out->frames;
}

bool ts_webp_probe(const char *path, ts_movie_facts *out)
{
    ts_err unread;
    uint8_t *b = NULL;
    size_t n = 0;
    ts_movie_facts facts = {.container = "WebP", .codec = "webp"};
    if (ts_file_read(&unread, path, MOST_BYTES, "a picture", &b, &n)) return false;
    bool found = n > HEAD && !memcmp(b, "RIFF", 4) && !memcmp(b + 8, "WEBP", 4) &&
                 count_animation(b, n, &facts);
    free(b);
    if (found) *out = facts;
    return found;
}
