//go:build cgo

// The few calls of every frame, each one crossing from Go to C and no
// allocation of Go's. Everything that is done once is done through go-gst.
#ifndef FENRIR_NATIVE_H
#define FENRIR_NATIVE_H

#include <gst/app/gstappsink.h>
#include <gst/app/gstappsrc.h>
#include <gst/gst.h>
#include <gst/video/video.h>
#include <stdlib.h>

// What can be said in a few microseconds of a picture, as mean squares of differences
// of its luma.
typedef struct {
	double change; // to the picture before
	double detail; // between neighbouring pixels
	double moved, spread; // of a small copy: change, and the variance of both pictures together
	double area; // share of the macroblocks in which something changed
} fenrir_look;

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
	fenrir_look look; // at the picture, where it is asked for
	gboolean looks;
	guint8 *thumb, *last_thumb; // the picture and the one before it, small
	int thumb_width, thumb_height;
	guint8 *changed; // for each macroblock whether it did
	int columns, rows; // of macroblocks
	int quantizer, top, bottom; // for the next frame; rows from top on, before bottom, are encoded
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
// Has pictures looked at from now on.
int fenrir_source_look(fenrir_source *s);
// Says how the picture is to be encoded: also those rows of macroblocks from the share
// top of its height to bottom where nothing changed. Only after fenrir_source_look.
void fenrir_source_order(fenrir_source *s, int quantizer, double top, double bottom);
// Paints a part of the picture over, before it has been pushed. All even.
int fenrir_source_patch(fenrir_source *s, const void *bgrx, int x, int y, int width, int height);
// Gives the picture to the encoder. Never blocks.
int fenrir_source_push(fenrir_source *s, guint64 pts, guint64 duration, int key);
void fenrir_source_free(fenrir_source *s);

// Waits up to timeout ns for a unit.
int fenrir_pull(GstElement *appsink, guint64 timeout, fenrir_unit *u);
void fenrir_unit_release(fenrir_unit *u);

// Makes a pad that feeds an element, in time format from 0 on. The pad belongs to the
// caller; NULL if the element takes no such caps.
GstPad *fenrir_feed(GstElement *to, const char *caps);
// Has size bytes go all the way to where something keeps them.
int fenrir_feed_push(GstPad *feed, guint64 pts, guint64 duration, const void *data, gsize size);
void fenrir_feed_free(GstPad *feed);

// Makes the allocator give large buffers back to the system when they are freed.
void fenrir_tune_allocator(void);

// Tells whether an element has a property, and whether its type takes a value.
int fenrir_has_property(GstElement *e, const char *name);
int fenrir_takes(GstElement *e, const char *name, const char *value);
void fenrir_set(GstElement *e, const char *name, const char *value);
// Tells whether an element's output can have this field of its caps.
int fenrir_offers(GstElement *e, const char *caps);

#endif
