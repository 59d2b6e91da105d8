//go:build cgo && faults

package pipeline

/*
#include <gst/gst.h>
#include <unistd.h>

// An element that never comes back from one change of its state, and with it
// neither does the pipeline that it is in.
typedef struct { GstElement element; } FenrirHang;
typedef struct { GstElementClass element; } FenrirHangClass;
G_DEFINE_TYPE(FenrirHang, fenrir_hang, GST_TYPE_ELEMENT)

static GstStateChange hang_at;

static GstStateChangeReturn fenrir_hang_change(GstElement *e, GstStateChange change) {
	while (change == hang_at)
		pause();
	return GST_ELEMENT_CLASS(fenrir_hang_parent_class)->change_state(e, change);
}

static void fenrir_hang_class_init(FenrirHangClass *c) {
	GST_ELEMENT_CLASS(c)->change_state = fenrir_hang_change;
	gst_element_class_set_static_metadata(GST_ELEMENT_CLASS(c), "Hang", "Test", "Hangs", "Fenrir");
}

static void fenrir_hang_init(FenrirHang *h) { (void)h; }

static void fenrir_sabotage_state(GstElement *pipeline, GstStateChange at) {
	hang_at = at;
	gst_bin_add(GST_BIN(pipeline), GST_ELEMENT(g_object_new(fenrir_hang_get_type(), NULL)));
}

// A streaming thread that never comes back, while it holds the lock of its stream:
// stopping the pipeline waits for that.
static GstPadProbeReturn fenrir_hang_probe(GstPad *pad, GstPadProbeInfo *info, gpointer left) {
	(void)pad;
	(void)info;
	int *n = left;
	while (--*n < 0)
		pause();
	return GST_PAD_PROBE_OK;
}

static void fenrir_sabotage_stream(GstElement *encoder, int after) {
	static int left;
	left = after;
	GstPad *pad = gst_element_get_static_pad(encoder, "src");
	gst_pad_add_probe(pad, GST_PAD_PROBE_TYPE_BUFFER, fenrir_hang_probe, &left, NULL);
	gst_object_unref(pad);
}
*/
import "C"

import (
	"os"
	"strconv"
	"strings"
	"unsafe"
)

// sabotage makes the pipeline hang within GStreamer as FENRIR_FAULT_NATIVE says.
func (c *codec) sabotage() {
	name, number, _ := strings.Cut(os.Getenv("FENRIR_FAULT_NATIVE"), ":")
	after, _ := strconv.Atoi(number) // none is 0
	pipeline := (*C.GstElement)(unsafe.Pointer(c.pipeline.Unsafe()))
	switch name {
	case "block-start":
		C.fenrir_sabotage_state(pipeline, C.GST_STATE_CHANGE_PAUSED_TO_PLAYING)
	case "block-stop":
		C.fenrir_sabotage_state(pipeline, C.GST_STATE_CHANGE_PLAYING_TO_PAUSED)
	case "block-stream":
		C.fenrir_sabotage_stream(cElement(c.elements[1]), C.int(after))
	}
}
