#ifndef FENRIR_X264_ORDER_H
#define FENRIR_X264_ORDER_H

#include <gst/gst.h>

// How one picture is to be encoded: attached to its buffer, under this name.
#define FENRIR_X264_ORDER "fenrir-x264-order"

typedef struct {
	int quantizer;
	int columns, rows; // of macroblocks, 16×16 pixels, that follow row by row
	guint8 encode[];   // 0: leave this one as the last picture was decoded
} fenrir_x264_order;

#endif
