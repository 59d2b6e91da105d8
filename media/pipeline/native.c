//go:build cgo

#include "native.h"
#include "x264/order.h"

#include <libyuv.h>
#include <malloc.h>
#include <string.h>

#define THUMB 16  // pixels of a picture in one of its small copy, in each direction
#define SAMPLE 13 // blocks of a picture of which one is compared first
#define LOOK 8    // rows of a picture of which one is looked at

int fenrir_source_format(fenrir_source *s, const char *format, int width, int height, int fps) {
	// BT.601 in limited range with the primaries and the curve of sRGB: what
	// libyuv makes of a screen's pixels.
	GstCaps *caps = gst_caps_new_simple("video/x-raw", "format", G_TYPE_STRING, format, "width", G_TYPE_INT, width, "height",
		G_TYPE_INT, height, "framerate", GST_TYPE_FRACTION, fps, 1, "colorimetry", G_TYPE_STRING, "2:4:5:1",
		"interlace-mode", G_TYPE_STRING, "progressive", "pixel-aspect-ratio", GST_TYPE_FRACTION, 1, 1, NULL);
	GstBufferPool *pool = NULL;
	int result = FENRIR_REFUSED;
	if (!gst_video_info_from_caps(&s->info, caps))
		goto out;
	pool = gst_buffer_pool_new();
	GstStructure *config = gst_buffer_pool_get_config(pool);
	GstAllocationParams params;
	gst_allocation_params_init(&params);
	params.align = 63;
	gst_buffer_pool_config_set_params(config, caps, GST_VIDEO_INFO_SIZE(&s->info), 2, 0);
	gst_buffer_pool_config_set_allocator(config, NULL, &params);
	if (!gst_buffer_pool_set_config(pool, config) || !gst_buffer_pool_set_active(pool, TRUE))
		goto out;
	if (s->picture)
		gst_clear_buffer(&s->picture);
	if (s->pool) {
		gst_buffer_pool_set_active(s->pool, FALSE);
		gst_object_unref(s->pool);
	}
	s->pool = pool;
	pool = NULL;
	gst_app_src_set_caps(GST_APP_SRC(s->appsrc), caps);
	result = FENRIR_OK;
out:
	if (pool)
		gst_object_unref(pool);
	gst_caps_unref(caps);
	return result;
}

static int convert(GstVideoFrame *f, const uint8_t *bgrx, int stride, int x, int y, int width, int height) {
	uint8_t *luma = (uint8_t *)GST_VIDEO_FRAME_PLANE_DATA(f, 0) + y * GST_VIDEO_FRAME_PLANE_STRIDE(f, 0) + x;
	int sl = GST_VIDEO_FRAME_PLANE_STRIDE(f, 0), sc = GST_VIDEO_FRAME_PLANE_STRIDE(f, 1);
	uint8_t *chroma = (uint8_t *)GST_VIDEO_FRAME_PLANE_DATA(f, 1) + y / 2 * sc;
	switch (GST_VIDEO_FRAME_FORMAT(f)) {
	case GST_VIDEO_FORMAT_I420: {
		int sv = GST_VIDEO_FRAME_PLANE_STRIDE(f, 2);
		uint8_t *v = (uint8_t *)GST_VIDEO_FRAME_PLANE_DATA(f, 2) + y / 2 * sv + x / 2;
		return ARGBToI420(bgrx, stride, luma, sl, chroma + x / 2, sc, v, sv, width, height);
	}
	case GST_VIDEO_FORMAT_NV12:
		return ARGBToNV12(bgrx, stride, luma, sl, chroma + x, sc, width, height);
	default:
		return -1;
	}
}

int fenrir_source_scale(fenrir_source *s, int from_width, int from_height, int x, int y, int width, int height) {
	if (x < 0 || y < 0 || width < 1 || height < 1 || x + width > GST_VIDEO_INFO_WIDTH(&s->info) || y + height > GST_VIDEO_INFO_HEIGHT(&s->info))
		return FENRIR_REFUSED;
	g_free(s->scaled);
	s->scaled = g_try_malloc0((gsize)4 * GST_VIDEO_INFO_WIDTH(&s->info) * GST_VIDEO_INFO_HEIGHT(&s->info));
	s->from_width = from_width;
	s->from_height = from_height;
	s->x = x;
	s->y = y;
	s->width = width;
	s->height = height;
	return s->scaled ? FENRIR_OK : FENRIR_REFUSED;
}

int fenrir_source_look(fenrir_source *s) {
	s->thumb_width = MAX(GST_VIDEO_INFO_WIDTH(&s->info) / THUMB, 1);
	s->thumb_height = MAX(GST_VIDEO_INFO_HEIGHT(&s->info) / THUMB, 1);
	gsize size = (gsize)s->thumb_width * s->thumb_height;
	s->columns = (GST_VIDEO_INFO_WIDTH(&s->info) + 15) / 16;
	s->rows = (GST_VIDEO_INFO_HEIGHT(&s->info) + 15) / 16;
	g_free(s->thumb);
	g_free(s->last_thumb);
	g_free(s->changed);
	s->changed = g_try_malloc0((gsize)s->columns * s->rows);
	s->thumb = g_try_malloc0(size);
	s->last_thumb = g_try_malloc0(size);
	s->looks = s->thumb && s->last_thumb && s->changed;
	return s->looks ? FENRIR_OK : FENRIR_REFUSED;
}

// Tells whether a block, of 16 pixels of luma and 8 of chroma in each direction, is not
// the same in two pictures.
static gboolean differ(GstVideoFrame *a, GstVideoFrame *b, int column, int row) {
	for (guint p = 0; p < GST_VIDEO_FRAME_N_PLANES(a); p++) {
		int size = p ? 8 : 16, stride = GST_VIDEO_FRAME_PLANE_STRIDE(a, p);
		int width = MIN(size, GST_VIDEO_FRAME_COMP_WIDTH(a, p) - size * column), height = MIN(size, GST_VIDEO_FRAME_COMP_HEIGHT(a, p) - size * row);
		const guint8 *x = (guint8 *)GST_VIDEO_FRAME_PLANE_DATA(a, p) + (gsize)size * row * stride + size * column;
		const guint8 *y = (guint8 *)GST_VIDEO_FRAME_PLANE_DATA(b, p) + (gsize)size * row * stride + size * column;
		for (int line = 0; line < height; line++, x += stride, y += stride)
			if (width == 16 ? memcmp(x, y, 16) : width == 8 ? memcmp(x, y, 8) : memcmp(x, y, width)) // most without a call
				return TRUE;
	}
	return FALSE;
}

// Tells of each block whether it changed, and returns the share of those that did.
static double compare(fenrir_source *s, GstVideoFrame *a, GstVideoFrame *b) {
	int all = s->columns * s->rows, tried = 0, n = 0;
	for (int i = 0; i < all; i += SAMPLE, tried++)
		n += differ(a, b, i % s->columns, i / s->columns);
	if (n * 4 > tried * 3) { // all of it moves, and the others are not worth their cache misses
		memset(s->changed, 1, all);
		return 1;
	}
	n = 0;
	for (int i = 0; i < all; i++)
		n += s->changed[i] = differ(a, b, i % s->columns, i / s->columns);
	return (double)n / all;
}

void fenrir_source_order(fenrir_source *s, int quantizer, double top, double bottom) {
	s->quantizer = quantizer;
	s->top = top * s->rows + 0.5;
	s->bottom = bottom * s->rows + 0.5;
}

// Looks at the luma of one row in LOOK; before is the picture before, or NULL.
static void look(fenrir_source *s, GstVideoFrame *f, GstBuffer *before) {
	int width = GST_VIDEO_FRAME_WIDTH(f), rows = MAX(GST_VIDEO_FRAME_HEIGHT(f) / LOOK, 1), stride = LOOK * GST_VIDEO_FRAME_PLANE_STRIDE(f, 0);
	const uint8_t *luma = GST_VIDEO_FRAME_PLANE_DATA(f, 0);
	double pixels = (double)width * rows;
	s->look.detail = ComputeSumSquareErrorPlane(luma, stride, luma + 1, stride, width - 1, rows) / pixels;
	s->look.change = s->look.detail;
	GstVideoFrame b;
	if (before && gst_video_frame_map(&b, &s->info, before, GST_MAP_READ)) {
		s->look.change = ComputeSumSquareErrorPlane(luma, stride, GST_VIDEO_FRAME_PLANE_DATA(&b, 0), LOOK * GST_VIDEO_FRAME_PLANE_STRIDE(&b, 0), width, rows) / pixels;
		s->look.area = compare(s, f, &b);
		gst_video_frame_unmap(&b);
	} else {
		memset(s->changed, 1, (gsize)s->columns * s->rows);
		s->look.area = 1;
	}
	uint8_t *t = s->last_thumb, *last = s->thumb;
	s->thumb = t;
	s->last_thumb = last;
	ScalePlane(luma, stride, width, rows, t, s->thumb_width, s->thumb_width, s->thumb_height, kFilterBox);
	int n = s->thumb_width * s->thumb_height;
	double sum = 0, sum_last = 0, squares = 0, moved = 0;
	for (int i = 0; i < n; i++) {
		sum += t[i];
		sum_last += last[i];
		squares += (double)t[i] * t[i] + (double)last[i] * last[i];
		moved += (double)(t[i] - last[i]) * (t[i] - last[i]);
	}
	s->look.moved = moved / n;
	s->look.spread = squares / n - (sum / n) * (sum / n) - (sum_last / n) * (sum_last / n);
}

int fenrir_source_picture(fenrir_source *s, const void *bgrx, int stride) {
	GstBuffer *b = NULL;
	GstVideoFrame f;
	if (s->scaled) {
		int row = 4 * GST_VIDEO_INFO_WIDTH(&s->info);
		if (ARGBScale(bgrx, stride, s->from_width, s->from_height, s->scaled + (gsize)s->y * row + 4 * s->x, row, s->width, s->height, kFilterBox))
			return FENRIR_REFUSED;
		bgrx = s->scaled;
		stride = row;
	}
	if (gst_buffer_pool_acquire_buffer(s->pool, &b, NULL) != GST_FLOW_OK)
		return FENRIR_REFUSED;
	if (!gst_video_frame_map(&f, &s->info, b, GST_MAP_WRITE)) {
		gst_buffer_unref(b);
		return FENRIR_REFUSED;
	}
	int failed = convert(&f, bgrx, stride, 0, 0, GST_VIDEO_INFO_WIDTH(&s->info), GST_VIDEO_INFO_HEIGHT(&s->info));
	if (s->looks && !failed)
		look(s, &f, s->picture);
	gst_video_frame_unmap(&f);
	if (failed) {
		gst_buffer_unref(b);
		return FENRIR_REFUSED;
	}
	if (s->picture)
		gst_buffer_unref(s->picture);
	s->picture = b;
	return FENRIR_OK;
}

int fenrir_source_patch(fenrir_source *s, const void *bgrx, int x, int y, int width, int height) {
	GstVideoFrame f;
	if (!s->picture || x < 0 || y < 0 || x + width > GST_VIDEO_INFO_WIDTH(&s->info) || y + height > GST_VIDEO_INFO_HEIGHT(&s->info) ||
		!gst_video_frame_map(&f, &s->info, s->picture, GST_MAP_WRITE))
		return FENRIR_REFUSED;
	int failed = convert(&f, bgrx, 4 * width, x, y, width, height);
	gst_video_frame_unmap(&f);
	for (int row = y / 16; s->looks && row < (y + height + 15) / 16; row++)
		memset(s->changed + row * s->columns + x / 16, 1, (x + width + 15) / 16 - x / 16);
	return failed ? FENRIR_REFUSED : FENRIR_OK;
}

int fenrir_source_push(fenrir_source *s, guint64 pts, guint64 duration, int key) {
	if (!s->picture)
		return FENRIR_REFUSED;
	if (key)
		gst_element_send_event(s->encoder, gst_video_event_new_upstream_force_key_unit(GST_CLOCK_TIME_NONE, TRUE, 0));
	// The copy shares the picture's memory, so that the same picture can be sent
	// again with another time.
	GstBuffer *b = gst_buffer_copy(s->picture);
	GST_BUFFER_PTS(b) = pts;
	GST_BUFFER_DTS(b) = GST_CLOCK_TIME_NONE;
	GST_BUFFER_DURATION(b) = duration;
	if (s->looks) {
		fenrir_x264_order *o = g_malloc(sizeof *o + (gsize)s->columns * s->rows);
		o->quantizer = s->quantizer;
		o->columns = s->columns;
		o->rows = s->rows;
		memcpy(o->encode, s->changed, (gsize)s->columns * s->rows);
		if (s->top < s->bottom)
			memset(o->encode + s->top * s->columns, 1, (gsize)(s->bottom - s->top) * s->columns);
		gst_mini_object_set_qdata(GST_MINI_OBJECT(b), g_quark_from_static_string(FENRIR_X264_ORDER), o, g_free);
		memset(s->changed, 0, (gsize)s->columns * s->rows); // what is sent again is the same
	}
	switch (gst_app_src_push_buffer(GST_APP_SRC(s->appsrc), b)) {
	case GST_FLOW_OK:
		return FENRIR_OK;
	case GST_FLOW_EOS:
	case GST_FLOW_FLUSHING:
		return FENRIR_ENDED;
	default:
		return FENRIR_REFUSED;
	}
}

void fenrir_source_free(fenrir_source *s) {
	g_free(s->scaled);
	s->scaled = NULL;
	g_free(s->thumb);
	g_free(s->last_thumb);
	g_free(s->changed);
	s->thumb = s->last_thumb = s->changed = NULL;
	s->looks = FALSE;
	if (s->picture)
		gst_clear_buffer(&s->picture);
	if (s->pool) {
		gst_buffer_pool_set_active(s->pool, FALSE);
		gst_clear_object(&s->pool);
	}
}

int fenrir_pull(GstElement *appsink, guint64 timeout, fenrir_unit *u) {
	memset(u, 0, sizeof *u);
	u->sample = gst_app_sink_try_pull_sample(GST_APP_SINK(appsink), timeout);
	if (!u->sample)
		return gst_app_sink_is_eos(GST_APP_SINK(appsink)) ? FENRIR_ENDED : FENRIR_EMPTY;
	u->buffer = gst_sample_get_buffer(u->sample);
	if (!u->buffer || !gst_buffer_map(u->buffer, &u->mapped, GST_MAP_READ)) {
		gst_sample_unref(u->sample);
		return FENRIR_REFUSED;
	}
	// Encoders may move the whole stream in time, to have room for DTS, and move
	// the segment with it.
	u->pts = gst_segment_to_running_time(gst_sample_get_segment(u->sample), GST_FORMAT_TIME, GST_BUFFER_PTS(u->buffer));
	u->key = !GST_BUFFER_FLAG_IS_SET(u->buffer, GST_BUFFER_FLAG_DELTA_UNIT);
	GstCaps *caps = gst_sample_get_caps(u->sample);
	if (caps && gst_caps_get_size(caps) > 0) {
		GstStructure *st = gst_caps_get_structure(caps, 0);
		gst_structure_get_int(st, "width", &u->width);
		gst_structure_get_int(st, "height", &u->height);
	}
	return FENRIR_OK;
}

void fenrir_unit_release(fenrir_unit *u) {
	gst_buffer_unmap(u->buffer, &u->mapped);
	gst_sample_unref(u->sample);
}

GstPad *fenrir_feed(GstElement *to, const char *description) {
	GstCaps *caps = gst_caps_from_string(description);
	GstPad *feed = gst_pad_new("feed", GST_PAD_SRC), *sink = gst_element_get_static_pad(to, "sink");
	gst_object_ref_sink(feed);
	GstSegment segment;
	gst_segment_init(&segment, GST_FORMAT_TIME);
	// It is in no bin, as its peer is; so the hierarchy is not checked.
	gboolean ok = caps && sink && gst_pad_link_full(feed, sink, GST_PAD_LINK_CHECK_CAPS) == GST_PAD_LINK_OK && gst_pad_set_active(feed, TRUE) &&
		gst_pad_push_event(feed, gst_event_new_stream_start("sound")) && gst_pad_push_event(feed, gst_event_new_caps(caps)) &&
		gst_pad_push_event(feed, gst_event_new_segment(&segment));
	if (caps)
		gst_caps_unref(caps);
	if (sink)
		gst_object_unref(sink);
	if (ok)
		return feed;
	fenrir_feed_free(feed);
	return NULL;
}

int fenrir_feed_push(GstPad *feed, guint64 pts, guint64 duration, const void *data, gsize size) {
	GstBuffer *b = gst_buffer_new_allocate(NULL, size, NULL);
	gst_buffer_fill(b, 0, data, size);
	GST_BUFFER_PTS(b) = pts;
	GST_BUFFER_DURATION(b) = duration;
	return gst_pad_push(feed, b) == GST_FLOW_OK ? FENRIR_OK : FENRIR_REFUSED;
}

void fenrir_feed_free(GstPad *feed) {
	GstPad *peer = gst_pad_get_peer(feed);
	gst_pad_set_active(feed, FALSE);
	if (peer) {
		gst_pad_unlink(feed, peer);
		gst_object_unref(peer);
	}
	gst_object_unref(feed);
}

void fenrir_tune_allocator(void) {
	// By default glibc raises the threshold with every large buffer that is freed,
	// and keeps those that come after in arenas of each thread, full of holes.
	mallopt(M_MMAP_THRESHOLD, 512 << 10);
	mallopt(M_TRIM_THRESHOLD, 4 << 20);
	mallopt(M_ARENA_MAX, 4);
}

int fenrir_has_property(GstElement *e, const char *name) {
	GParamSpec *p = g_object_class_find_property(G_OBJECT_GET_CLASS(e), name);
	return p && (p->flags & G_PARAM_WRITABLE);
}

int fenrir_takes(GstElement *e, const char *name, const char *value) {
	GParamSpec *p = g_object_class_find_property(G_OBJECT_GET_CLASS(e), name);
	if (!p || !(p->flags & G_PARAM_WRITABLE))
		return 0;
	GValue v = G_VALUE_INIT;
	g_value_init(&v, G_PARAM_SPEC_VALUE_TYPE(p));
	gboolean ok = gst_value_deserialize_with_pspec(&v, value, p);
	// A value out of range would be clamped to one that nobody asked for.
	if (ok && g_param_value_validate(p, &v))
		ok = FALSE;
	g_value_unset(&v);
	return ok;
}

void fenrir_set(GstElement *e, const char *name, const char *value) { gst_util_set_object_arg(G_OBJECT(e), name, value); }

int fenrir_offers(GstElement *e, const char *description) {
	GstPad *pad = gst_element_get_static_pad(e, "src");
	GstCaps *want = gst_caps_from_string(description);
	int ok = 0;
	if (pad && want) {
		GstCaps *have = gst_pad_get_pad_template_caps(pad);
		ok = gst_caps_can_intersect(have, want);
		gst_caps_unref(have);
	}
	if (want)
		gst_caps_unref(want);
	if (pad)
		gst_object_unref(pad);
	return ok;
}
