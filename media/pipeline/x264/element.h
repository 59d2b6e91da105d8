//go:build cgo

#ifndef FENRIR_X264_ELEMENT_H
#define FENRIR_X264_ELEMENT_H

// Loads libx264 and registers the element. Returns NULL, or why not.
const char *fenrir_x264_register(void);

#endif
