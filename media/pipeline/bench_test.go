//go:build cgo

package pipeline

import (
	"fmt"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media/pipeline/encoders"
)

// BenchmarkFrame is one frame of game-like motion from pixels to the encoded
// unit: conversion and encoding. It reports what the encoder makes of it.
func BenchmarkFrame(b *testing.B) {
	for _, size := range []struct {
		name       string
		w, h, kbps int
	}{{"720p", 1280, 720, 10000}, {"1080p", 1920, 1080, 20000}} {
		for _, e := range encoders.Table() {
			if e.Hardware {
				continue
			}
			b.Run(size.name+"/"+e.Name, func(b *testing.B) { benchFrame(b, e, size.w, size.h, size.kbps) })
		}
	}
}

func benchFrame(b *testing.B, e encoders.Entry, w, h, kbps int) {
	initGStreamer()
	c, err := newCodec(e, encoders.Params{Kbps: kbps, FPS: 60, Cores: runtime.NumCPU(), Pixels: w * h})
	if err != nil {
		b.Skip(err)
	}
	for kv := range strings.SplitSeq(os.Getenv("PROPS"), ",") { // to try others than the table's
		name, value, _ := strings.Cut(kv, "=")
		c.setAll([]encoders.Prop{{Name: name, Values: []string{value}}})
	}
	if err := c.setSize(w, h); err != nil {
		b.Fatal(err)
	}
	if err := c.play(); err != nil {
		b.Fatal(err)
	}
	defer stop(c.pipeline)
	s := newScene(w, h)
	d := newDecoder(b, e.Codec)
	var took []time.Duration
	var sizes []int
	var quality []float64
	bytes := 0
	var spent time.Duration
	b.ResetTimer()
	b.StopTimer()
	for n := range b.N {
		f := s.draw(n)
		b.StartTimer()
		began, used := time.Now(), cpu()
		if _, err := c.picture(f); err != nil {
			b.Fatal(err)
		}
		if err := c.push(time.Duration(n)*time.Second/60, time.Second/60, false, false); err != nil {
			b.Fatal(err)
		}
		u, ok, err := c.pull(5 * time.Second)
		if err != nil || !ok {
			b.Fatal("no unit:", err)
		}
		took = append(took, time.Since(began))
		spent += cpu() - used
		b.StopTimer()
		sizes = append(sizes, len(u.data))
		bytes += len(u.data)
		data := slices.Clone(u.data)
		c.release()
		c.learn(len(data), 0)
		if img := d.decode(data); img != nil && n%10 == 9 {
			quality = append(quality, psnr(img, f))
		}
		if os.Getenv("FRAMES") != "" && n < 40 {
			fmt.Fprintln(os.Stderr, n, len(data), took[n])
		}
	}
	first := sizes[0]
	slices.Sort(took)
	slices.Sort(sizes)
	mean := 0.0
	worst := math.Inf(1)
	for _, q := range quality {
		mean += q / float64(len(quality))
		worst = min(worst, q)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(spent)/float64(b.N), "ms-cpu")
	b.ReportMetric(ms(took[len(took)/2]), "ms-p50")
	b.ReportMetric(ms(took[len(took)*95/100]), "ms-p95")
	b.ReportMetric(float64(bytes)*8*60/float64(b.N)/1000, "kbit/s")
	b.ReportMetric(float64(first)/1000, "kB-first")
	b.ReportMetric(float64(sizes[len(sizes)-1])/1000, "kB-max")
	b.ReportMetric(mean, "dB")
	b.ReportMetric(worst, "dB-min")
}

// cpu is the time that this process has used on all cores.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
