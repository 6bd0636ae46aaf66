/* Clips by libav. RGB becomes yuv420p by swscale: BT.709, limited range (16..235, 16..240), chroma
 * averaged at its left siting as H.264 and VP9 expect, and the stream says so; FFV1 has it as it
 * is. The file is addressed as file:PATH, so that no name is taken for a protocol. Palettes and
 * dithering of GIFs are movie_palette.c's; GIF comments movie_gif.c's. */
#include "codecs/movie.h"

#include "codecs/picture_write.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>

enum {
    /* row by row libvpx writes the same for any number above 1. What x264 writes depends on the
     * number, and is only sure to be the same every time with 1 */
    VP9_THREADS = 4,
    MAX_RATE = 65535,  /* of either part of the frame rate: MPEG-4 part 2 has 16 bits */
    MAX_VIDEO = 16384, /* of a side, by x264 and by libvpx as distributions build it; */
    MAX_GIF = 65535,   /* by its 16 bits */
    CRF_H264 = 18,
    CRF_VP9 = 24,
    ROW_PADDING = 64 /* swscale's vector code may read past the end of a row */
};

struct ts_movie {
    const char *name;
    ts_file_kind kind;
    bool exact;
    int w, h;     /* of the frames that come; the stream's are even where it is yuv420p */
    size_t row;   /* bytes of a row of `rgb` */
    uint8_t *rgb; /* the frame with even sides */
    struct SwsContext *sws;
    AVFormatContext *format;
    AVCodecContext *encoder;
    AVStream *stream;
    AVFrame *frame;
    AVPacket *packet;
    int64_t frames;
};

static const char *const ENCODERS[][4] = {
    [TS_FILE_MP4] = {"libx264", "libopenh264", "mpeg4"},
    [TS_FILE_WEBM] = {"libvpx-vp9"},
    [TS_FILE_GIF] = {"gif"},
    [TS_FILE_MKV] = {"libx264", "libopenh264", "mpeg4"},
    [TS_FILE_Y4M] = {"wrapped_avframe"},
};

/* A libav error as a sentence. Its number is an errno for all that the system refused: then the
 * output can not be written. */
static ts_status movie_failed(ts_err *err, const char *name, const char *what, int code)
{
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(code, text, sizeof text);
    ts_status st = code == AVERROR(ENOMEM) ? TS_EMEMORY
                   : code == AVERROR(EINVAL) || code == AVERROR_EXTERNAL || code == AVERROR_BUG ||
                           code == AVERROR_ENCODER_NOT_FOUND
                       ? TS_EDEVICE
                       : TS_EIO;
    return ts_fail(err, st, "%s: %s: %s", name, what, text);
}

ts_status ts_movie_encoder(ts_err *err, ts_file_kind kind, int crf, const char *name,
                           const char **encoder)
{
    static const char *const EXACT[] = {"ffv1", NULL};
    const char *const *list = ts_movie_is_exact(kind, crf) ? EXACT : ENCODERS[kind];
    for (const char *const *e = list; *e; e++)
        if (avcodec_find_encoder_by_name(*e)) {
            *encoder = *e;
            return TS_OK;
        }
    return ts_fail(err, TS_EDEVICE,
                   "%s: the FFmpeg library here has no encoder for it, expected %s", name, list[0]);
}

ts_status ts_movie_check_size(ts_err *err, ts_file_kind kind, const char *name, long w, long h)
{
    int most = kind == TS_FILE_GIF ? MAX_GIF : MAX_VIDEO;
    if (w > most || h > most)
        return ts_fail(err, TS_EUSAGE, "%s: %ldx%ld is too large, expected at most %d a side", name,
                       w, h, most);
    /* as avcodec_open2 asks it */
    if (av_image_check_size((unsigned)w, (unsigned)h, 0, NULL) < 0)
        return ts_fail(
            err, TS_EUSAGE,
            "%s: %ldx%ld is too large: the FFmpeg library takes about 268 million pixels", name, w,
            h);
    return TS_OK;
}

/* Quality: crf where the encoder has it. One quantiser otherwise: H.264's step is 2^((qp - 4) / 6),
 * MPEG-4 part 2's is 2 q. */
static void set_quality(ts_movie *m, const ts_movie_options *o, AVDictionary **options)
{
    AVCodecContext *e = m->encoder;
    const char *codec = e->codec->name;
    int crf = o->crf >= 0 ? o->crf : m->kind == TS_FILE_WEBM ? CRF_VP9 : CRF_H264;
    if (m->kind == TS_FILE_GIF || m->kind == TS_FILE_Y4M) return;
    if (m->exact) {
        e->level = 3; /* slices, and a sum of each */
        e->gop_size = 1;
        av_dict_set(options, "slicecrc", "1", 0);
        return;
    }
    if (strcmp(codec, "libopenh264") == 0) {
        e->qmin = e->qmax = crf < 1 ? 1 : crf;
        av_dict_set(options, "rc_mode", "quality", 0);
    } else if (strcmp(codec, "mpeg4") == 0) {
        double q = 0.5;
        for (int i = 4; i < crf; i++) q *= 1.122462048309373; /* 2^(1/6) */
        e->flags |= AV_CODEC_FLAG_QSCALE;
        e->global_quality = FF_QP2LAMBDA * (q < 1 ? 1 : q > 31 ? 31 : (int)(q + 0.5));
    } else {
        av_dict_set_int(options, "crf", crf, 0);
    }
    if (strcmp(codec, "libvpx-vp9") == 0) {
        e->bit_rate = 0; /* crf alone decides */
        av_dict_set(options, "deadline", "good", 0);
        av_dict_set(options, "cpu-used", "2", 0);
        av_dict_set(options, "row-mt", "1", 0);
    }
}

static ts_status open_movie_encoder(ts_err *err, ts_movie *m, const ts_movie_options *o)
{
    AVDictionary *options = NULL;
    const AVCodec *codec = avcodec_find_encoder_by_name(o->encoder);
    AVRational rate = av_d2q(o->fps, MAX_RATE);
    int code;
    if (!codec) return movie_failed(err, m->name, o->encoder, AVERROR_ENCODER_NOT_FOUND);
    if (rate.num <= 0 || rate.den <= 0)
        return ts_fail(err, TS_EUSAGE, "%s: %g frames a second can not be written", m->name,
                       o->fps);
    AVCodecContext *e = m->encoder = avcodec_alloc_context3(codec);
    if (!e) return movie_failed(err, m->name, o->encoder, AVERROR(ENOMEM));
    bool even = m->kind != TS_FILE_GIF && !m->exact;
    e->width = m->w + (even && m->w & 1);
    e->height = m->h + (even && m->h & 1);
    e->pix_fmt = m->kind == TS_FILE_GIF ? AV_PIX_FMT_PAL8
                 : m->exact             ? AV_PIX_FMT_BGR0
                                        : AV_PIX_FMT_YUV420P;
    e->time_base = av_inv_q(rate);
    e->framerate = rate;
    e->sample_aspect_ratio = (AVRational){1, 1};
    e->thread_count = m->kind == TS_FILE_WEBM ? VP9_THREADS : 1;
    e->flags |= AV_CODEC_FLAG_BITEXACT;
    if (m->format->oformat->flags & AVFMT_GLOBALHEADER) e->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    if (m->kind != TS_FILE_GIF) {
        e->color_primaries = AVCOL_PRI_BT709;
        e->color_trc = AVCOL_TRC_BT709;
        e->colorspace = m->exact ? AVCOL_SPC_RGB : AVCOL_SPC_BT709;
        e->color_range = m->exact ? AVCOL_RANGE_JPEG : AVCOL_RANGE_MPEG;
        if (!m->exact) e->chroma_sample_location = AVCHROMA_LOC_LEFT;
    }
    set_quality(m, o, &options);
    code = avcodec_open2(e, codec, &options);
    av_dict_free(&options);
    return code < 0 ? movie_failed(err, m->name, "the encoder does not start", code) : TS_OK;
}

static ts_status open_format(ts_err *err, ts_movie *m, const char *url, const ts_movie_options *o)
{
    AVDictionary *options = NULL;
    AVFormatContext *f = m->format;
    int code;
    m->stream = avformat_new_stream(f, NULL);
    if (!m->stream) return movie_failed(err, m->name, "no stream", AVERROR(ENOMEM));
    m->stream->time_base = m->encoder->time_base;
    m->stream->avg_frame_rate = m->encoder->framerate;
    m->stream->sample_aspect_ratio = m->encoder->sample_aspect_ratio;
    if ((code = avcodec_parameters_from_context(m->stream->codecpar, m->encoder)) < 0)
        return movie_failed(err, m->name, "no stream", code);
    f->flags |= AVFMT_FLAG_BITEXACT; /* no library versions, no random identifiers */
    if (o->title) av_dict_set(&f->metadata, "title", o->title, 0);
    if (o->comment) av_dict_set(&f->metadata, "comment", o->comment, 0);
    if ((code = avio_open(&f->pb, url, AVIO_FLAG_WRITE)) < 0)
        return movie_failed(err, m->name, "can not be written", code);
    if (m->kind == TS_FILE_MP4) av_dict_set(&options, "movflags", "+faststart", 0);
    code = avformat_write_header(f, &options);
    av_dict_free(&options);
    return code < 0 ? movie_failed(err, m->name, "can not be written", code) : TS_OK;
}

static ts_status open_picture(ts_err *err, ts_movie *m)
{
    AVCodecContext *e = m->encoder;
    int code;
    m->packet = av_packet_alloc();
    m->frame = av_frame_alloc();
    if (!m->packet || !m->frame) return movie_failed(err, m->name, "no frame", AVERROR(ENOMEM));
    m->frame->format = e->pix_fmt;
    m->frame->width = e->width;
    m->frame->height = e->height;
    m->frame->color_range = e->color_range;
    m->frame->colorspace = e->colorspace;
    m->frame->color_primaries = e->color_primaries;
    m->frame->color_trc = e->color_trc;
    m->frame->chroma_location = e->chroma_sample_location;
    m->frame->quality = e->global_quality; /* where the quantiser is fixed, it is each frame's */
    if ((code = av_frame_get_buffer(m->frame, 0)) < 0)
        return movie_failed(err, m->name, "no frame", code);
    if (m->kind == TS_FILE_GIF || m->exact) return TS_OK;
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    m->row = (size_t)e->width * 3 + ROW_PADDING;
    m->rgb = av_calloc(e->height, m->row);
    m->sws = sws_alloc_context();
    if (!m->rgb || !m->sws) return movie_failed(err, m->name, "no frame", AVERROR(ENOMEM));
    av_opt_set_int(m->sws, "srcw", e->width, 0);
    av_opt_set_int(m->sws, "srch", e->height, 0);
    av_opt_set_int(m->sws, "dstw", e->width, 0);
    av_opt_set_int(m->sws, "dsth", e->height, 0);
    av_opt_set_int(m->sws, "src_format", AV_PIX_FMT_RGB24, 0);
    av_opt_set_int(m->sws, "dst_format", AV_PIX_FMT_YUV420P, 0);
    av_opt_set_int(m->sws, "sws_flags",
                   SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT | SWS_FULL_CHR_H_INP, 0);
    /* in 1/256 of a pixel: on the left column, ... */
    av_opt_set_int(m->sws, "dst_h_chr_pos", 0, 0);
    av_opt_set_int(m->sws, "dst_v_chr_pos", 128, 0); /* ... between two rows */
    /* full range in, limited out */
    sws_setColorspaceDetails(m->sws, bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
    return (code = sws_init_context(m->sws, NULL, NULL)) < 0
               ? movie_failed(err, m->name, "no conversion to yuv420p", code)
               : TS_OK;
}

ts_status ts_movie_open(ts_err *err, const char *path, const ts_movie_options *options,
                        ts_movie **out)
{
    static const char *const FORMATS[] = {[TS_FILE_MP4] = "mp4",
                                          [TS_FILE_WEBM] = "webm",
                                          [TS_FILE_GIF] = "gif",
                                          [TS_FILE_MKV] = "matroska",
                                          [TS_FILE_Y4M] = "yuv4mpegpipe"};
    ts_status st = TS_OK;
    ts_movie_options o = *options;
    ts_movie *m = calloc(1, sizeof *m);
    char *url = NULL;
    int code;
    if (!m || asprintf(&url, "%s%s", path ? "file:" : "pipe:1", path ? path : "") < 0)
        TRY(ts_fail(err, TS_EMEMORY, "%s: no memory to write it", o.name));
    m->name = o.name;
    m->kind = o.kind;
    m->w = o.w;
    m->h = o.h;
    TRY(ts_movie_check_size(err, o.kind, o.name, o.w, o.h));
    if (!o.encoder) TRY(ts_movie_encoder(err, o.kind, o.crf, o.name, &o.encoder));
    m->exact = ts_movie_is_exact(o.kind, o.crf);
    if ((code = avformat_alloc_output_context2(&m->format, NULL, FORMATS[o.kind], url)) < 0)
        TRY(movie_failed(err, o.name, "the FFmpeg library here can not write this kind", code));
    TRY(open_movie_encoder(err, m, &o));
    TRY(open_picture(err, m));
    TRY(open_format(err, m, url, &o));
    *out = m;
    m = NULL;
done:
    free(url);
    ts_movie_free(m);
    return st;
}

void ts_movie_free(ts_movie *m)
{
    if (!m) return;
    if (m->format) avio_closep(&m->format->pb);
    avformat_free_context(m->format);
    avcodec_free_context(&m->encoder);
    av_frame_free(&m->frame);
    av_packet_free(&m->packet);
    sws_freeContext(m->sws);
    av_free(m->rgb);
    free(m);
}

/* Gives the encoder a frame (NULL: there are no more) and the file all packets that are ready. */
static ts_status encode_frame(ts_err *err, ts_movie *m, const AVFrame *frame)
{
    int code = avcodec_send_frame(m->encoder, frame);
    if (code < 0) return movie_failed(err, m->name, "a frame can not be encoded", code);
    while ((code = avcodec_receive_packet(m->encoder, m->packet)) >= 0) {
        if (m->packet->duration == 0) m->packet->duration = 1;
        av_packet_rescale_ts(m->packet, m->encoder->time_base, m->stream->time_base);
        m->packet->stream_index = m->stream->index;
        if ((code = av_interleaved_write_frame(m->format, m->packet)) < 0)
            return movie_failed(err, m->name, "can not be written", code);
    }
    if (code != AVERROR(EAGAIN) && code != AVERROR_EOF)
        return movie_failed(err, m->name, "a frame can not be encoded", code);
    return m->format->pb->error < 0
               ? movie_failed(err, m->name, "can not be written", m->format->pb->error)
               : TS_OK;
}

static void convert_pixels(ts_movie *m, const uint8_t *pixels)
{
    int w = m->encoder->width, h = m->encoder->height;
    const uint8_t *source[4] = {m->rgb};
    int stride[4] = {(int)m->row};
    for (int y = 0; y < h; y++) {
        const uint8_t *from = pixels + (size_t)(y < m->h ? y : m->h - 1) * m->w * 3;
        uint8_t *to = m->rgb + y * m->row;
        memcpy(to, from, (size_t)m->w * 3);
        if (w > m->w) memcpy(to + (size_t)m->w * 3, from + (size_t)(m->w - 1) * 3, 3);
    }
    sws_scale(m->sws, source, stride, 0, h, m->frame->data, m->frame->linesize);
}

static void copy_pixels(ts_movie *m, const uint8_t *rgb)
{
    for (int y = 0; y < m->h; y++) {
        uint8_t *to = m->frame->data[0] + (ptrdiff_t)y * m->frame->linesize[0];
        for (int x = 0; x < m->w; x++, to += 4, rgb += 3) {
            to[0] = rgb[2];
            to[1] = rgb[1];
            to[2] = rgb[0];
            to[3] = 0;
        }
    }
}

ts_status ts_movie_frame(ts_err *err, ts_movie *m, const uint8_t *pixels, const uint32_t *palette)
{
    int code = av_frame_make_writable(m->frame);
    if (code < 0) return movie_failed(err, m->name, "no frame", code);
    if (m->kind == TS_FILE_GIF) {
        for (int y = 0; y < m->h; y++)
            memcpy(m->frame->data[0] + y * m->frame->linesize[0], pixels + (size_t)y * m->w,
                   (size_t)m->w);
        memcpy(m->frame->data[1], palette, AVPALETTE_SIZE);
    } else if (m->exact) {
        copy_pixels(m, pixels);
    } else {
        convert_pixels(m, pixels);
    }
    m->frame->pts = m->frames++;
    return encode_frame(err, m, m->frame);
}

ts_status ts_movie_finish(ts_err *err, ts_movie *m)
{
    ts_status st = TS_OK;
    int code;
    TRY(encode_frame(err, m, NULL));
    if ((code = av_write_trailer(m->format)) < 0)
        TRY(movie_failed(err, m->name, "can not be written", code));
    avio_flush(m->format->pb);
    if ((code = m->format->pb->error) < 0)
        TRY(movie_failed(err, m->name, "can not be written", code));
    if ((code = avio_closep(&m->format->pb)) < 0)
        TRY(movie_failed(err, m->name, "can not be written", code));
done:
    return st;
}

/* The reader of pictures that libav would take by their name's extension; NULL: it finds the reader
 * by itself. */
static const AVInputFormat *find_reader_of_picture(const char *path)
{
    uint8_t head[3] = {0};
    FILE *f = fopen(path, "rbe");
    bool jpeg = f && fread(head, 1, sizeof head, f) == sizeof head && head[0] == 0xff &&
                head[1] == 0xd8 && head[2] == 0xff;
    if (f) fclose(f);
    return jpeg ? av_find_input_format("jpeg_pipe") : NULL;
}

static ts_status open_input(ts_err *err, const char *path, AVFormatContext **format)
{
    /* Named, because libav also has readers that take any text for a movie, and playlists that open
     * other files. */
    static const char READERS[] = "mov,matroska,gif,avi,ogg,flv,mpeg,mpegts,apng,yuv4mpegpipe,jpeg_"
                                  "pipe,webp_pipe,bmp_pipe,tiff_pipe,png_pipe";
    AVDictionary *options = NULL;
    char *url = NULL;
    *format = NULL;
    if (asprintf(&url, "file:%s", path) < 0)
        return ts_fail(err, TS_EMEMORY, "%s: no memory to read it", path);
    av_log_set_level(AV_LOG_QUIET);
    av_dict_set(&options, "format_whitelist", READERS, 0);
    av_dict_set(&options, "protocol_whitelist", "file", 0);
    int code = avformat_open_input(format, url, find_reader_of_picture(path), &options);
    av_dict_free(&options);
    free(url);
    return code < 0 ? ts_fail(err, TS_EMODEL, "%s: is not a picture or clip that can be read", path)
                    : TS_OK;
}

ts_status ts_movie_comment(ts_err *err, const char *path, char **comment)
{
    ts_status st = TS_OK;
    AVFormatContext *format = NULL;
    *comment = NULL;
    TRY(open_input(err, path, &format));
    const AVDictionaryEntry *e = av_dict_get(format->metadata, "comment", NULL, 0);
    *comment = e ? strdup(e->value) : NULL;
    if (e && !*comment) TRY(ts_fail(err, TS_EMEMORY, "%s: no memory for its text", path));
done:
    avformat_close_input(&format);
    return st;
}

/* Container: the first name of the reader, as people write it; Matroska and WebM have one, and WebM
 * has codecs of its own. */
static void name_container(const char *reader, enum AVCodecID codec, char out[16])
{
    enum { MATROSKA = 1 };
    static const struct {
        const char *reader, *name;
    } known[] = {{"mov", "MP4"},          {"matroska", "MKV"},   {"gif", "GIF"},
                 {"png_pipe", "PNG"},     {"jpeg_pipe", "JPEG"}, {"apng", "APNG"},
                 {"yuv4mpegpipe", "Y4M"}, {"webp_pipe", "WebP"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strncmp(reader, known[i].reader, strlen(known[i].reader))) {
            bool webm = codec == AV_CODEC_ID_VP8 || codec == AV_CODEC_ID_VP9;
            strcpy(out, i == MATROSKA && webm ? "WebM" : known[i].name);
            return;
        }
    snprintf(out, 16, "%.*s", (int)strcspn(reader, ",_"), reader);
}

/* Pictures of a stream; counted one by one where the container does not say. */
static long count_pictures(AVFormatContext *format, int stream)
{
    long n = (long)format->streams[stream]->nb_frames;
    AVPacket *packet = n > 0 ? NULL : av_packet_alloc();
    if (!packet) return n;
    for (; av_read_frame(format, packet) >= 0; av_packet_unref(packet))
        n += packet->stream_index == stream;
    av_packet_free(&packet);
    return n;
}

ts_status ts_movie_probe(ts_err *err, const char *path, ts_movie_facts *out)
{
    ts_status st = TS_OK;
    AVFormatContext *format = NULL;
    memset(out, 0, sizeof *out);
    if (ts_webp_probe(path, out)) return TS_OK;
    TRY(open_input(err, path, &format));
    int video = avformat_find_stream_info(format, NULL) < 0
                    ? -1
                    : av_find_best_stream(format, AVMEDIA_TYPE_VIDEO, -1, -1, NULL, 0);
    if (video < 0) TRY(ts_fail(err, TS_EMODEL, "%s: is damaged, or has no pictures in it", path));
    const AVStream *s = format->streams[video];
    name_container(format->iformat->name, s->codecpar->codec_id, out->container);
    snprintf(out->codec, sizeof out->codec, "%s", avcodec_get_name(s->codecpar->codec_id));
    out->w = s->codecpar->width;
    out->h = s->codecpar->height;
    out->frames = count_pictures(format, video);
    if (out->frames != 1 && s->avg_frame_rate.num > 0)
        out->seconds = (double)out->frames * av_q2d(av_inv_q(s->avg_frame_rate));
    else if (out->frames != 1 && format->duration > 0)
        out->seconds = (double)format->duration / AV_TIME_BASE;
done:
    avformat_close_input(&format);
    return st;
}
