//go:build cgo

package pipeline

import (
	"fmt"
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/go-gst/go-gst/gst"
	"github.com/go-gst/go-gst/gst/app"

	"fenrir/media"
	"fenrir/media/pipeline/capture"
	"fenrir/media/pipeline/encoders"
)

// scene makes pictures that move as those of a game do: a detailed landscape
// that scrolls in two directions, things that fly over it, sparks, and a strip
// that stands still.
type scene struct {
	w, h    int
	land    []uint32 // twice the size of the picture
	picture []uint32
}

func newScene(w, h int) *scene {
	s := &scene{w: w, h: h, land: make([]uint32, 4*w*h), picture: make([]uint32, w*h)}
	for y := range 2 * h {
		for x := range 2 * w {
			v, size := 0.0, 1.0
			for o := range 5 {
				v += size * math.Sin(float64(x)/(90/float64(o*o+1))+3*math.Sin(float64(y)/(70/float64(o+1)))+float64(o))
				size *= 0.6
			}
			grain := float64(noise(uint32(x), uint32(y))%24) - 12
			g := 128 + 45*v + grain
			s.land[y*2*w+x] = rgb(g*0.8, g, g*0.55+30)
		}
	}
	return s
}

func rgb(r, g, b float64) uint32 {
	c := func(v float64) uint32 { return uint32(max(0, min(255, v))) }
	return c(r)<<16 | c(g)<<8 | c(b)
}

// noise is a hash of a place.
func noise(x, y uint32) uint32 {
	h := x*0x9E3779B1 ^ y*0x85EBCA77
	h ^= h >> 15
	h *= 0xC2B2AE3D
	return h ^ h>>13
}

// draw makes the n-th picture. It is valid until the next call.
func (s *scene) draw(n int) capture.Frame {
	w, h := s.w, s.h
	at := float64(n)
	ox, oy := (n*5)%w, int(float64(h)/2*(1+math.Sin(at/60)))%h
	for y := range h {
		copy(s.picture[y*w:][:w], s.land[(y+oy)*2*w+ox:])
	}
	for i := range 24 {
		x := int(float64(w)*(0.5+0.48*math.Sin(at/(20+float64(i))+float64(i)))) - 20
		y := int(float64(h)*(0.5+0.48*math.Cos(at/(27-float64(i)/2)+2*float64(i)))) - 20
		s.box(x, y, 24+i, 20+i/2, noise(uint32(i), 7))
	}
	for i := range 150 {
		k := noise(uint32(i), uint32(n/3))
		s.box(int(k)%w&0xffff, int(k>>16)%h, 2, 2, 0xffffc0)
	}
	s.box(0, 0, w, h/18, 0x202028)
	for i := range w / 24 {
		s.box(8+i*20, 6, int(noise(uint32(i), 3)%14), h/18-12, 0xe0e0e0)
	}
	return capture.Frame{Pixels: unsafe.Slice((*byte)(unsafe.Pointer(&s.picture[0])), 4*w*h), Stride: 4 * w, Width: w, Height: h}
}

func (s *scene) box(x, y, w, h int, c uint32) {
	for py := max(y, 0); py < min(y+h, s.h); py++ {
		row := s.picture[py*s.w:][:s.w]
		for px := max(x, 0); px < min(x+w, s.w); px++ {
			row[px] = c
		}
	}
}

// decoder turns units back into pictures.
type decoder struct {
	t    testing.TB
	src  *app.Source
	sink *app.Sink
	pipe *gst.Pipeline
}

func newDecoder(t testing.TB, codec media.Codec) *decoder {
	t.Helper()
	initGStreamer()
	elements := map[media.Codec]string{
		media.H264: "h264parse ! avdec_h264 max-threads=1", media.VP8: "vp8dec", media.VP9: "vp9dec", media.AV1: "av1parse ! av1dec",
	}[codec]
	p, err := gst.NewPipelineFromString("appsrc name=src format=time caps=" + encoders.Caps(codec) + " ! " + elements +
		" ! videoconvert n-threads=2 ! video/x-raw,format=I420 ! appsink name=sink sync=false max-buffers=0")
	if err != nil {
		t.Fatal(err)
	}
	d := &decoder{t: t, pipe: p}
	for _, name := range []string{"src", "sink"} {
		e, err := p.GetElementByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if name == "src" {
			d.src = app.SrcFromElement(e)
		} else {
			d.sink = app.SinkFromElement(e)
		}
	}
	if err := p.SetState(gst.StatePlaying); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !stop(p) {
			t.Error("decoder does not stop")
		}
	})
	return d
}

// image is a decoded picture.
type image struct {
	w, h    int
	y, u, v []byte // without padding
}

// decode gives one unit to the decoder and returns what comes out, nil when
// nothing does within the bound.
func (d *decoder) decode(data []byte) *image {
	d.t.Helper()
	if ret := d.src.PushBuffer(gst.NewBufferFromBytes(data)); ret != gst.FlowOK {
		d.t.Fatal("decoder:", busError(d.pipe, 0, fmt.Errorf("%v", ret)))
	}
	s := d.sink.TryPullSample(gst.ClockTime(5 * time.Second))
	if s == nil {
		d.t.Log("decoder:", busError(d.pipe, 0, nil))
		return nil
	}
	st := s.GetCaps().GetStructureAt(0)
	w, _ := st.GetValue("width")
	h, _ := st.GetValue("height")
	img := &image{w: w.(int), h: h.(int)}
	b := s.GetBuffer().Bytes()
	round := func(n, to int) int { return (n + to - 1) / to * to }
	ys, cs := round(img.w, 4), round((img.w+1)/2, 4)
	ch := (img.h + 1) / 2
	plane := func(b []byte, stride, w, h int) []byte {
		out := make([]byte, 0, w*h)
		for y := range h {
			out = append(out, b[y*stride:][:w]...)
		}
		return out
	}
	yh := round(img.h, 2)
	img.y = plane(b, ys, img.w, img.h)
	img.u = plane(b[ys*yh:], cs, (img.w+1)/2, ch)
	img.v = plane(b[ys*yh+cs*ch:], cs, (img.w+1)/2, ch)
	return img
}

// rgbAt is the colour of a pixel.
func (i *image) rgbAt(x, y int) (r, g, b int) {
	c := (x / 2) + (y/2)*((i.w+1)/2)
	yy, u, v := 1.164*(float64(i.y[y*i.w+x])-16), float64(i.u[c])-128, float64(i.v[c])-128
	return int(yy + 1.596*v), int(yy - 0.392*u - 0.813*v), int(yy + 2.017*u)
}

// psnr compares the luma of a decoded picture with the pixels that it was made of.
func psnr(img *image, f capture.Frame) float64 {
	var sum float64
	for y := range img.h {
		row := f.Pixels[y*f.Stride:]
		for x := range img.w {
			luma := (25*int(row[4*x]) + 129*int(row[4*x+1]) + 66*int(row[4*x+2]) + 0x1080) >> 8
			d := float64(luma - int(img.y[y*img.w+x]))
			sum += d * d
		}
	}
	if sum == 0 {
		return 99
	}
	return 10 * math.Log10(255*255*float64(img.w*img.h)/sum)
}
