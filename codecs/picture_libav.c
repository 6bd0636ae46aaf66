/* A picture in memory by libav: found out by its content, decoded, and converted to RGB or RGBA by
 * swscale. Names of readers are given, because libav also has some that take any text for a movie.
 */
#include "codecs/picture_libav.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER = 1 << 15, PADDING = 64 };

typedef struct {
    const uint8_t *data;
    size_t size, at;
} memory;

static int read_memory(void *opaque, uint8_t *to, int n)
{
    memory *m = opaque;
    size_t left = m->size - m->at, some = (size_t)n < left ? (size_t)n : left;
    if (!some) return AVERROR_EOF;
    memcpy(to, m->data + m->at, some);
    m->at += some;
    return (int)some;
}

static int64_t seek_memory(void *opaque, int64_t offset, int whence)
{
    memory *m = opaque;
    if (whence == AVSEEK_SIZE) return (int64_t)m->size;
    int64_t to = offset + (whence == SEEK_CUR   ? (int64_t)m->at
                           : whence == SEEK_END ? (int64_t)m->size
                                                : 0);
    if (to < 0 || to > (int64_t)m->size) return AVERROR(EINVAL);
    m->at = (size_t)to;
    return to;
}

typedef struct {
    AVIOContext *io;
    AVFormatContext *format;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;
} reader;

static void close_reader(reader *r)
{
    av_frame_free(&r->frame);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->decoder);
    avformat_close_input(&r->format);
    if (r->io) av_freep((void *)&r->io->buffer);
    avio_context_free(&r->io);
}

static int open_reader(reader *r, memory *m)
{
    AVDictionary *options = NULL;
    uint8_t *buffer = av_malloc(BUFFER);
    r->format = avformat_alloc_context();
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    r->io = buffer ? avio_alloc_context(buffer, BUFFER, 0, m, read_memory, NULL, seek_memory)
                   : NULL;
    if (!r->io) av_free(buffer);
    if (!r->io || !r->format || !r->packet || !r->frame) return AVERROR(ENOMEM);
    r->format->pb = r->io;
    av_dict_set(&options, "format_whitelist", "webp_pipe,tiff_pipe,gif,bmp_pipe", 0);
    int code = avformat_open_input(&r->format, NULL, NULL, &options);
    av_dict_free(&options);
    return code;
}

static int decode_first(reader *r, long most)
{
    int code = AVERROR_INVALIDDATA;
    const AVCodec *codec = NULL;
    if (r->format->nb_streams)
        codec = avcodec_find_decoder(r->format->streams[0]->codecpar->codec_id);
    if (!codec) return r->format->nb_streams ? AVERROR_DECODER_NOT_FOUND : code;
    r->decoder = avcodec_alloc_context3(codec);
    if (!r->decoder) return AVERROR(ENOMEM);
    code = avcodec_parameters_to_context(r->decoder, r->format->streams[0]->codecpar);
    if (code < 0) return code;
    r->decoder->max_pixels = most;
    r->decoder->thread_count = 1;
    if ((code = avcodec_open2(r->decoder, codec, NULL)) < 0) return code;
    if ((code = av_read_frame(r->format, r->packet)) < 0) return code;
    if ((code = avcodec_send_packet(r->decoder, r->packet)) < 0) return code;
    avcodec_send_packet(r->decoder, NULL);
    code = avcodec_receive_frame(r->decoder, r->frame);
    return code >= 0 && r->frame->decode_error_flags ? AVERROR_INVALIDDATA : code;
}

static int convert_picture(const AVFrame *f, int *channels, ts_picture *out)
{
    const AVPixFmtDescriptor *d = av_pix_fmt_desc_get(f->format);
    if (!d || f->width < 1 || f->height < 1) return AVERROR_INVALIDDATA;
    bool clear = d->flags & (AV_PIX_FMT_FLAG_ALPHA | AV_PIX_FMT_FLAG_PAL);
    int n = clear ? 4 : 3, w = f->width, h = f->height;
    struct SwsContext *sws = sws_getContext(
        w, h, f->format, w, h, clear ? AV_PIX_FMT_RGBA : AV_PIX_FMT_RGB24,
        SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);
    if (!sws) return AVERROR_PATCHWELCOME;
    /* swscale's vector code may write past the end of a row */
    int stride[4] = {n * w};
    uint8_t *to[4] = {malloc((size_t)n * (size_t)w * (size_t)h + PADDING)};
    int code = to[0]
                   ? sws_scale(sws, (const uint8_t *const *)f->data, f->linesize, 0, h, to, stride)
                   : AVERROR(ENOMEM);
    sws_freeContext(sws);
    if (code < 0) {
        free(to[0]);
        return code;
    }
    *channels = n;
    *out = (ts_picture){.w = w, .h = h, .rgb = to[0]};
    return 0;
}

/* ---- animated WebP, of which libav reads single pictures alone ---- */
static size_t read_le(const uint8_t *b, int bytes)
{
    size_t n = 0;
    for (int i = 0; i < bytes; i++) n |= (size_t)b[i] << 8 * i;
    return n;
}

static void put_le(uint8_t *b, size_t n, int bytes)
{
    for (int i = 0; i < bytes; i++) b[i] = (uint8_t)(n >> 8 * i);
}

/* The first frame as a file of its own (RFC 9649, 2.7): the chunks of its ANMF behind a VP8X of its
 * size. malloc'd; NULL: it is no animation, or there is no memory. */
static uint8_t *take_first_frame(const uint8_t *data, size_t size, size_t *n)
{
    enum { HEAD = 12, CHUNK = 8, EXTENDED = 10, FRAME = 16, HAS_ALPHA = 0x10 };
    size_t at = HEAD, length = 0;
    if (size < HEAD || memcmp(data, "RIFF", 4) || memcmp(data + 8, "WEBP", 4)) return NULL;
    for (;; at += CHUNK + length + (length & 1)) {
        if (at > size || size - at < CHUNK) return NULL;
        length = read_le(data + at + 4, 4);
        if (length > size - at - CHUNK) return NULL;
        if (!memcmp(data + at, "ANMF", 4)) break;
    }
    if (length <= FRAME) return NULL;
    const uint8_t *frame = data + at + CHUNK;
    *n = HEAD + CHUNK + EXTENDED + length - FRAME;
    uint8_t *file = malloc(*n);
    if (!file) return NULL;
    memcpy(file, "RIFF....WEBPVP8X", HEAD + 4);
    put_le(file + 4, *n - CHUNK, 4);
    put_le(file + HEAD + 4, EXTENDED, 4);
    put_le(file + HEAD + CHUNK, memcmp(frame + FRAME, "VP8 ", 4) ? HAS_ALPHA : 0, 4);
    memcpy(file + HEAD + CHUNK + 4, frame + 6, 6); /* width and height, each less one */
    memcpy(file + HEAD + CHUNK + EXTENDED, frame + FRAME, length - FRAME);
    return file;
}

ts_status ts_picture_decode_libav(ts_err *err, const char *path, const uint8_t *data, size_t size,
                                  long most, bool *known, int *channels, ts_picture *out)
{
    reader r = {0};
    size_t n = 0;
    uint8_t *first = take_first_frame(data, size, &n);
    memory m = {first ? first : data, first ? n : size, 0};
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_log_set_level(AV_LOG_QUIET);
    int code = open_reader(&r, &m);
    *known = code >= 0 || code == AVERROR(ENOMEM);
    if (code >= 0) code = decode_first(&r, most);
    if (code >= 0) code = convert_picture(r.frame, channels, out);
    const char *kind = r.format ? r.format->iformat->name : "";
    ts_status st = TS_OK;
    if (*known && code == AVERROR(ENOMEM)) {
        st = ts_fail(err, TS_EMEMORY, "%s: no memory to read it", path);
    } else if (*known && code < 0) {
        av_strerror(code, text, sizeof text);
        st = ts_fail(err, TS_EMODEL,
                     "%s: a damaged picture, or one of more than %ld pixels or of a kind that the "
                     "FFmpeg library here does not decode (%.*s): %s",
                     path, most, (int)strcspn(kind, "_"), kind, text);
    }
    close_reader(&r);
    free(first);
    return st;
}
