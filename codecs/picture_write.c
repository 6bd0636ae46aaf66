/* What is encoded is one packet, which is a whole file but for the text: that is put behind the
 * first two bytes of a JPEG (ITU T.81, B.2.4.5), and makes a simple WebP an extended one (RFC 9649,
 * 2.7).
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
    AT_HALF = 17,    /* mjpeg's quantiser at a quality of 50, */
    COARSEST = 31,   /* and its largest */
    SEGMENT = 65533, /* bytes of text in one of a JPEG, whose length counts itself */
    CHUNK = 8,       /* of RIFF: name and size */
    HEAD = 12,       /* "RIFF", size, "WEBP" */
    EXTENDED = 10,   /* bytes of VP8X */
    MOST_BYTES = 1 << 30
};
static const char own_segment[] = "tessera\n"; /* before what is ours in a JPEG's comment */
static const char xmp_head[] =
    "<x:xmpmeta xmlns:x=\"adobe:ns:meta/\"><rdf:RDF "
    "xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\"><rdf:Description rdf:about=\"\" "
    "xmlns:tessera=\"urn:tessera\"><tessera:json>";
static const char xmp_tail[] = "</tessera:json></rdf:Description></rdf:RDF></x:xmpmeta>";

static const char *encoder_name(ts_file_kind kind)
{
    return kind == TS_FILE_JPEG ? "mjpeg" : "libwebp";
}

ts_status ts_picture_check_encoder(ts_err *err, ts_file_kind kind, const char *name)
{
    if (avcodec_find_encoder_by_name(encoder_name(kind))) return TS_OK;
    return ts_fail(err, TS_EDEVICE,
                   "%s: the FFmpeg library here has no encoder for it, expected %s", name,
                   encoder_name(kind));
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

typedef struct {
    AVCodecContext *encoder;
    AVFrame *frame;
    AVPacket *packet;
    struct SwsContext *sws;
} encoding;

static void close_encoding(encoding *e)
{
    avcodec_free_context(&e->encoder);
    av_frame_free(&e->frame);
    av_packet_free(&e->packet);
    sws_freeContext(e->sws);
}

static int jpeg_quantiser(int quality)
{
    double s = quality < 50 ? 50. / quality : 2 - quality / 50.;
    long q = lrint(AT_HALF * s);
    return q < 1 ? 1 : q > COARSEST ? COARSEST : (int)q;
}

static int open_encoding(encoding *e, const ts_picture_options *o)
{
    bool jpeg = o->kind == TS_FILE_JPEG;
    int quality = o->quality ? o->quality : TS_PICTURE_QUALITY;
    const AVCodec *codec = avcodec_find_encoder_by_name(encoder_name(o->kind));
    enum AVPixelFormat format = jpeg ? AV_PIX_FMT_YUVJ444P : AV_PIX_FMT_BGRA;
    int code;
    if (!codec) return AVERROR_ENCODER_NOT_FOUND;
    e->encoder = avcodec_alloc_context3(codec);
    e->frame = av_frame_alloc();
    e->packet = av_packet_alloc();
    if (!e->encoder || !e->frame || !e->packet) return AVERROR(ENOMEM);
    AVCodecContext *c = e->encoder;
    c->width = e->frame->width = o->w;
    c->height = e->frame->height = o->h;
    c->pix_fmt = format;
    e->frame->format = format;
    e->frame->pts = 0;
    c->time_base = (AVRational){1, 1};
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT;
    if (jpeg) {
        c->flags |= AV_CODEC_FLAG_QSCALE;
        c->qmin = 1;
        c->global_quality = e->frame->quality = jpeg_quantiser(quality) * FF_QP2LAMBDA;
        c->color_range = e->frame->color_range = AVCOL_RANGE_JPEG;
    } else {
        av_opt_set_double(c->priv_data, "quality", quality, 0);
        av_opt_set_int(c->priv_data, "lossless", quality == TS_MOST_QUALITY, 0);
    }
    if ((code = avcodec_open2(c, codec, NULL)) < 0) return code;
    return av_frame_get_buffer(e->frame, 0);
}

static int fill_frame(encoding *e, const uint8_t *rgb)
{
    int w = e->encoder->width, h = e->encoder->height;
    if (e->encoder->pix_fmt == AV_PIX_FMT_BGRA) {
        for (int y = 0; y < h; y++) {
            uint8_t *to = e->frame->data[0] + (ptrdiff_t)y * e->frame->linesize[0];
            const uint8_t *from = rgb + (size_t)y * (size_t)w * 3;
            for (int x = 0; x < w; x++, to += 4, from += 3) {
                to[0] = from[2];
                to[1] = from[1];
                to[2] = from[0];
                to[3] = 255;
            }
        }
        return 0;
    }
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    e->sws = sws_getContext(w, h, AV_PIX_FMT_RGB24, w, h, AV_PIX_FMT_YUVJ444P,
                            SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP,
                            NULL, NULL, NULL);
    if (!e->sws) return AVERROR(ENOMEM);
    sws_setColorspaceDetails(e->sws, bt601, 1, bt601, 1, 0, 1 << 16, 1 << 16);
    const uint8_t *const source[4] = {rgb};
    const int stride[4] = {3 * w};
    sws_scale(e->sws, source, stride, 0, h, e->frame->data, e->frame->linesize);
    return 0;
}

static int encode_picture(encoding *e, const ts_picture_options *o, const uint8_t *rgb)
{
    int code = open_encoding(e, o);
    if (code >= 0) code = fill_frame(e, rgb);
    if (code >= 0) code = avcodec_send_frame(e->encoder, e->frame);
    if (code >= 0) code = avcodec_send_frame(e->encoder, NULL);
    return code < 0 ? code : avcodec_receive_packet(e->encoder, e->packet);
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

static bool write_webp(FILE *f, const AVPacket *p, int w, int h, const char *xmp)
{
    enum { HAS_XMP = 4 };
    if (!xmp) return fwrite(p->data, 1, (size_t)p->size, f) == (size_t)p->size;
    if (p->size < HEAD) return false;
    size_t n = strlen(xmp), odd = n & 1, picture = (size_t)p->size - HEAD;
    uint8_t head[HEAD + CHUNK + EXTENDED] = "RIFF....WEBPVP8X", tail[CHUNK] = "XMP ";
    put_u32(head + 4, 4 + CHUNK + EXTENDED + picture + CHUNK + n + odd);
    put_u32(head + HEAD + 4, EXTENDED);
    put_u32(head + HEAD + CHUNK, HAS_XMP);
    for (int i = 0; i < 3; i++) {
        head[HEAD + CHUNK + 4 + i] = (uint8_t)((unsigned)(w - 1) >> 8 * i);
        head[HEAD + CHUNK + 7 + i] = (uint8_t)((unsigned)(h - 1) >> 8 * i);
    }
    put_u32(tail + 4, n);
    return fwrite(head, 1, sizeof head, f) == sizeof head &&
           fwrite(p->data + HEAD, 1, picture, f) == picture &&
           fwrite(tail, 1, sizeof tail, f) == sizeof tail && fwrite(xmp, 1, n, f) == n &&
           (!odd || fputc(0, f) == 0);
}

ts_status ts_picture_write(ts_err *err, const ts_picture_options *o, const char *path,
                           const uint8_t *rgb, const char *text)
{
    ts_status st = TS_OK;
    const char *name = o->name;
    encoding e = {0};
    char why[AV_ERROR_MAX_STRING_SIZE] = "", *xmp = NULL;
    FILE *f = NULL;
    int code = encode_picture(&e, o, rgb);
    if (code < 0) {
        av_strerror(code, why, sizeof why);
        TRY(ts_fail(err, code == AVERROR(ENOMEM) ? TS_EMEMORY : TS_EDEVICE,
                    "%s: it can not be encoded: %s", name, why));
    }
    if (text && o->kind == TS_FILE_WEBP && !(xmp = make_xmp(text)))
        TRY(ts_fail(err, TS_EMEMORY, "%s: no memory to write it", name));
    f = fopen(path, "wbe");
    bool good = f && (o->kind == TS_FILE_JPEG ? write_jpeg(f, e.packet, text)
                                              : write_webp(f, e.packet, o->w, o->h, xmp));
    good = f && !fclose(f) && good;
    if (!good) TRY(ts_fail(err, TS_EIO, "%s: can not be written: %s", name, strerror(errno)));
done:
    free(xmp);
    close_encoding(&e);
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
