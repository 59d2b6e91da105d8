//go:build cgo

// The few calls of every frame, each one crossing from Go to C and no
// allocation of Go's. Everything that is done once is done through go-gst.
#ifndef FENRIR_NATIVE_H
#define FENRIR_NATIVE_H

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <gst/video/video.h>

// A source of raw pictures. The elements are borrowed; the rest is owned.
typedef struct {
	GstElement *appsrc;
	GstElement *encoder;
	GstVideoInfo info;
	GstBufferPool *pool;
	GstBuffer *picture; // the last one, immutable
	guint8 *scaled; // pixels of the picture's size, where those given are of another; else NULL
	int from_width, from_height; // of the pixels given, then
	int x, y, width, height; // where they go, then
} fenrir_source;

// An encoded unit, borrowed from its sample until released.
typedef struct {
	GstSample *sample;
	GstBuffer *buffer;
	GstMapInfo mapped;
	guint64 pts;
	gboolean key;
	gint width, height;
} fenrir_unit;

enum { FENRIR_OK = 0, FENRIR_EMPTY = 1, FENRIR_ENDED = 2, FENRIR_REFUSED = -1 };

// Makes the source deliver pictures of this format from now on.
int fenrir_source_format(fenrir_source *s, const char *format, int width, int height, int fps);
// Says that the pixels given from now on are of this size and go to this part of the
// picture, scaled. All around it is black.
int fenrir_source_scale(fenrir_source *s, int from_width, int from_height, int x, int y, int width, int height);
// Converts width×height pixels (blue, green, red, unused) into a new picture.
int fenrir_source_picture(fenrir_source *s, const void *bgrx, int stride);
// Paints a part of the picture over, before it has been pushed. All even.
int fenrir_source_patch(fenrir_source *s, const void *bgrx, int x, int y, int width, int height);
// Gives the picture to the encoder. Never blocks.
int fenrir_source_push(fenrir_source *s, guint64 pts, guint64 duration, int key);
void fenrir_source_free(fenrir_source *s);

// Waits up to timeout ns for a unit.
int fenrir_pull(GstElement *appsink, guint64 timeout, fenrir_unit *u);
void fenrir_unit_release(fenrir_unit *u);

// Makes the allocator give large buffers back to the system when they are freed.
void fenrir_tune_allocator(void);

// Tells whether an element has a property, and whether its type takes a value.
int fenrir_has_property(GstElement *e, const char *name);
int fenrir_takes(GstElement *e, const char *name, const char *value);
void fenrir_set(GstElement *e, const char *name, const char *value);
// Tells whether an element's output can have this field of its caps.
int fenrir_offers(GstElement *e, const char *caps);

#endif
