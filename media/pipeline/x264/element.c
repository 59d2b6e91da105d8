//go:build cgo

#include "element.h"
#include "order.h"

#include <dlfcn.h>
#include <gst/video/gstvideoencoder.h>
#include <gst/video/video.h>
#include <stdint.h>
#include <string.h>
#include <x264.h>

// The functions of libx264. Their names and the layout of their arguments are those of
// the build whose header this was compiled with; another build has another file name.
static struct {
	int (*preset)(x264_param_t *, const char *, const char *);
	int (*profile)(x264_param_t *, const char *);
	void (*picture)(x264_picture_t *);
	x264_t *(*open)(x264_param_t *);
	int (*reconfig)(x264_t *, x264_param_t *);
	int (*encode)(x264_t *, x264_nal_t **, int *, x264_picture_t *, x264_picture_t *);
	void (*close)(x264_t *);
} x264;

// Frames with a quantizer above this are decimated. Below, that wins nothing and takes
// 5 to 8 % of the time; from 40 on, to do without loses 0.8 dB.
#define DECIMATE 30

#define NAME_(x) #x
#define NAME(x) NAME_(x)

typedef struct {
	GstVideoEncoder parent;
	x264_t *encoder;
	GstVideoInfo info;
	x264_param_t params; // of the encoder now
	gint64 frames;       // given to the encoder
	gint threads;
	gchar *preset;
	x264_image_t decoded; // the last frame, in the encoder's memory: NV12
	guint8 *mixed;        // luma and chroma of a picture that is partly the last frame
} FenrirX264Enc;

typedef struct {
	GstVideoEncoderClass parent;
} FenrirX264EncClass;

G_DEFINE_TYPE(FenrirX264Enc, fenrir_x264_enc, GST_TYPE_VIDEO_ENCODER)

enum { PROP_THREADS = 1, PROP_PRESET };

static GstStaticPadTemplate sink_template =
	GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(GST_VIDEO_CAPS_MAKE("I420")));
static GstStaticPadTemplate src_template = GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS,
	GST_STATIC_CAPS("video/x-h264, stream-format=byte-stream, alignment=au, profile=constrained-baseline"));

static void set_property(GObject *o, guint id, const GValue *v, GParamSpec *spec) {
	FenrirX264Enc *e = (FenrirX264Enc *)o;
	switch (id) {
	case PROP_THREADS:
		e->threads = g_value_get_int(v);
		break;
	case PROP_PRESET:
		g_free(e->preset);
		e->preset = g_value_dup_string(v);
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(o, id, spec);
	}
}

static void get_property(GObject *o, guint id, GValue *v, GParamSpec *spec) {
	FenrirX264Enc *e = (FenrirX264Enc *)o;
	switch (id) {
	case PROP_THREADS:
		g_value_set_int(v, e->threads);
		break;
	case PROP_PRESET:
		g_value_set_string(v, e->preset);
		break;
	default:
		G_OBJECT_WARN_INVALID_PROPERTY_ID(o, id, spec);
	}
}

static void finalize(GObject *o) {
	g_free(((FenrirX264Enc *)o)->preset);
	G_OBJECT_CLASS(fenrir_x264_enc_parent_class)->finalize(o);
}

static gboolean stop(GstVideoEncoder *v) {
	FenrirX264Enc *e = (FenrirX264Enc *)v;
	if (e->encoder)
		x264.close(e->encoder);
	e->encoder = NULL;
	memset(&e->decoded, 0, sizeof e->decoded);
	g_free(e->mixed);
	e->mixed = NULL;
	return TRUE;
}

static gboolean set_format(GstVideoEncoder *v, GstVideoCodecState *state) {
	FenrirX264Enc *e = (FenrirX264Enc *)v;
	x264_param_t p;
	stop(v);
	e->info = state->info;
	if (x264.preset(&p, e->preset, "zerolatency") < 0) {
		GST_ELEMENT_ERROR(e, LIBRARY, SETTINGS, ("x264 has no preset %s", e->preset), (NULL));
		return FALSE;
	}
	p.i_width = GST_VIDEO_INFO_WIDTH(&e->info);
	p.i_height = GST_VIDEO_INFO_HEIGHT(&e->info);
	p.i_csp = X264_CSP_I420;
	p.i_fps_num = GST_VIDEO_INFO_FPS_N(&e->info);
	p.i_fps_den = GST_VIDEO_INFO_FPS_D(&e->info);
	p.i_threads = e->threads;
	p.b_sliced_threads = e->threads > 1;
	p.i_log_level = X264_LOG_WARNING; // to stderr

	// Frames are what they are asked to be: no key frames but those, one reference.
	p.i_keyint_max = X264_KEYINT_MAX_INFINITE;
	p.i_scenecut_threshold = 0;
	p.i_frame_reference = 1;
	p.analyse.i_weighted_pred = X264_WEIGHTP_NONE;
	p.b_repeat_headers = 1;
	p.b_annexb = 1;
	p.b_aud = 0;

	// A constant quantizer, which each frame overrides, is the only mode that does not
	// search a half-size copy of each frame first. x264 holds frames to the range of the
	// quantizers of its frame types; these factors, the least that it takes, make that all
	// there are, 0 to 69: 40 steps more for a key frame and 40 less for a B frame.
	p.rc.i_rc_method = X264_RC_CQP;
	p.rc.i_qp_constant = 35;
	p.rc.f_ip_factor = p.rc.f_pb_factor = 0.01;

	GstVideoColorimetry *c = &e->info.colorimetry;
	p.vui.b_fullrange = c->range == GST_VIDEO_COLOR_RANGE_0_255;
	p.vui.i_colorprim = gst_video_color_primaries_to_iso(c->primaries);
	p.vui.i_transfer = gst_video_transfer_function_to_iso(c->transfer);
	p.vui.i_colmatrix = gst_video_color_matrix_to_iso(c->matrix);
	p.vui.i_sar_width = GST_VIDEO_INFO_PAR_N(&e->info);
	p.vui.i_sar_height = GST_VIDEO_INFO_PAR_D(&e->info);

	if (x264.profile(&p, "baseline") < 0 || !(e->encoder = x264.open(&p))) {
		GST_ELEMENT_ERROR(e, LIBRARY, INIT, ("x264 refuses %d×%d", p.i_width, p.i_height), (NULL));
		return FALSE;
	}
	e->params = p;
	e->frames = 0;
	gst_video_codec_state_unref(gst_video_encoder_set_output_state(v, gst_static_pad_template_get_caps(&src_template), state));
	return gst_video_encoder_negotiate(v);
}

// Takes what is not to be encoded from the last frame as it was decoded: nothing is
// left to tell of it, whatever the quantizer.
static void mix(FenrirX264Enc *e, const fenrir_x264_order *order, x264_image_t *img) {
	int width = GST_ROUND_UP_2(GST_VIDEO_INFO_WIDTH(&e->info)), height = GST_ROUND_UP_2(GST_VIDEO_INFO_HEIGHT(&e->info));
	if (!e->decoded.plane[0] || e->decoded.i_csp != X264_CSP_NV12 || order->columns * 16 < width || order->rows * 16 < height ||
		!memchr(order->encode, 0, (size_t)order->columns * order->rows))
		return;
	if (!e->mixed && !(e->mixed = g_try_malloc((gsize)width * height * 3 / 2)))
		return;
	guint8 *chroma = e->mixed + (gsize)width * height;
	for (int y = 0; y < GST_VIDEO_INFO_HEIGHT(&e->info); y++)
		memcpy(e->mixed + (gsize)width * y, e->decoded.plane[0] + (gsize)e->decoded.i_stride[0] * y, width);
	for (int y = 0; y < height / 2; y++)
		memcpy(chroma + (gsize)width * y, e->decoded.plane[1] + (gsize)e->decoded.i_stride[1] * y, width);
	for (int row = 0; row < order->rows; row++)
		for (int column = 0; column < order->columns; column++) {
			if (!order->encode[row * order->columns + column])
				continue;
			int x = 16 * column, w = MIN(16, width - x);
			for (int y = 16 * row; y < MIN(16 * row + 16, GST_VIDEO_INFO_HEIGHT(&e->info)); y++)
				memcpy(e->mixed + (gsize)width * y + x, img->plane[0] + (gsize)img->i_stride[0] * y + x, w);
			for (int y = 8 * row; y < MIN(8 * row + 8, height / 2); y++) {
				guint8 *to = chroma + (gsize)width * y + x;
				const guint8 *u = img->plane[1] + (gsize)img->i_stride[1] * y + x / 2, *v = img->plane[2] + (gsize)img->i_stride[2] * y + x / 2;
				for (int i = 0; i < w / 2; i++) {
					to[2 * i] = u[i];
					to[2 * i + 1] = v[i];
				}
			}
		}
	img->i_csp = X264_CSP_NV12;
	img->i_plane = 2;
	img->plane[0] = e->mixed;
	img->plane[1] = chroma;
	img->i_stride[0] = img->i_stride[1] = width;
}

// Has single small coefficients left out where quantizers are coarse: there that leaves bits
// for more, elsewhere it only takes time.
static void decimate(FenrirX264Enc *e, int quantizer) {
	int want = quantizer > (e->params.analyse.b_dct_decimate ? DECIMATE - 2 : DECIMATE); // not back and forth
	if (want == e->params.analyse.b_dct_decimate)
		return;
	e->params.analyse.b_dct_decimate = want;
	x264.reconfig(e->encoder, &e->params); // it refuses nothing here that it took before
}

static GstFlowReturn handle_frame(GstVideoEncoder *v, GstVideoCodecFrame *f) {
	FenrirX264Enc *e = (FenrirX264Enc *)v;
	GstVideoFrame in;
	if (!gst_video_frame_map(&in, &e->info, f->input_buffer, GST_MAP_READ)) {
		GST_ELEMENT_ERROR(e, STREAM, ENCODE, ("a picture cannot be read"), (NULL));
		gst_video_encoder_finish_frame(v, f);
		return GST_FLOW_ERROR;
	}
	x264_picture_t pic, out;
	x264.picture(&pic);
	pic.img.i_csp = X264_CSP_I420;
	pic.img.i_plane = 3;
	for (int i = 0; i < 3; i++) {
		pic.img.plane[i] = GST_VIDEO_FRAME_PLANE_DATA(&in, i);
		pic.img.i_stride[i] = GST_VIDEO_FRAME_PLANE_STRIDE(&in, i);
	}
	pic.i_pts = e->frames++;
	pic.i_type = GST_VIDEO_CODEC_FRAME_IS_FORCE_KEYFRAME(f) ? X264_TYPE_IDR : X264_TYPE_AUTO;
	const fenrir_x264_order *order = gst_mini_object_get_qdata(GST_MINI_OBJECT(f->input_buffer), g_quark_from_static_string(FENRIR_X264_ORDER));
	if (order) {
		pic.i_qpplus1 = order->quantizer + 1;
		decimate(e, order->quantizer);
		if (pic.i_type != X264_TYPE_IDR)
			mix(e, order, &pic.img);
	}
	x264_nal_t *nal;
	int n;
	int size = x264.encode(e->encoder, &nal, &n, &pic, &out);
	gst_video_frame_unmap(&in);
	// A frame comes out for each that goes in: nothing is delayed.
	GstFlowReturn flow = size > 0 ? gst_video_encoder_allocate_output_frame(v, f, size) : GST_FLOW_ERROR;
	if (flow != GST_FLOW_OK) {
		GST_ELEMENT_ERROR(e, STREAM, ENCODE, ("x264 made no frame of a picture"), (NULL));
		gst_video_encoder_finish_frame(v, f);
		return flow;
	}
	e->decoded = out.img;
	gst_buffer_fill(f->output_buffer, 0, nal[0].p_payload, size); // of all NAL units, in a row
	if (out.b_keyframe)
		GST_VIDEO_CODEC_FRAME_SET_SYNC_POINT(f);
	return gst_video_encoder_finish_frame(v, f);
}

static void fenrir_x264_enc_class_init(FenrirX264EncClass *c) {
	GObjectClass *o = G_OBJECT_CLASS(c);
	GstElementClass *element = GST_ELEMENT_CLASS(c);
	GstVideoEncoderClass *v = GST_VIDEO_ENCODER_CLASS(c);
	o->set_property = set_property;
	o->get_property = get_property;
	o->finalize = finalize;
	v->set_format = set_format;
	v->handle_frame = handle_frame;
	v->stop = stop;
	GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS;
	g_object_class_install_property(o, PROP_THREADS, g_param_spec_int("threads", "Threads", "slices encoded at a time", 1, 16, 1, flags));
	g_object_class_install_property(o, PROP_PRESET, g_param_spec_string("speed-preset", "Preset", "of x264", "ultrafast", flags));
	gst_element_class_add_static_pad_template(element, &sink_template);
	gst_element_class_add_static_pad_template(element, &src_template);
	gst_element_class_set_static_metadata(element, "x264 with a quantizer for each frame", "Codec/Encoder/Video",
		"Encodes H.264 at quantizers that the application chooses", "The Fenrir authors");
}

static void fenrir_x264_enc_init(FenrirX264Enc *e) {
	e->threads = 1;
	e->preset = g_strdup("ultrafast");
}

const char *fenrir_x264_register(void) {
	// It stays open for as long as the process lives, as its element does.
	void *lib = dlopen("libx264.so." NAME(X264_BUILD), RTLD_NOW | RTLD_LOCAL);
	if (!lib)
		return dlerror();
	struct {
		void *to;
		const char *name;
	} functions[] = {
		{&x264.preset, "x264_param_default_preset"}, {&x264.profile, "x264_param_apply_profile"}, {&x264.picture, "x264_picture_init"},
		{&x264.open, NAME(x264_encoder_open)}, {&x264.reconfig, "x264_encoder_reconfig"}, {&x264.encode, "x264_encoder_encode"}, {&x264.close, "x264_encoder_close"},
	};
	for (size_t i = 0; i < G_N_ELEMENTS(functions); i++) {
		void *f = dlsym(lib, functions[i].name);
		if (!f)
			return dlerror();
		memcpy(functions[i].to, &f, sizeof f);
	}
	return gst_element_register(NULL, "fenrirx264enc", GST_RANK_NONE, fenrir_x264_enc_get_type()) ? NULL : "GStreamer refuses the element";
}
