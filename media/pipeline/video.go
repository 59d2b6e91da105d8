//go:build cgo

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"fenrir/media"
	"fenrir/media/pipeline/capture"
	"fenrir/media/pipeline/encoders"
	"fenrir/media/pipeline/h264"
	"fenrir/media/pipeline/pace"
	"fenrir/media/wire"
)

const (
	beatEvery = 80 * time.Millisecond  // between heartbeats
	stuck     = 400 * time.Millisecond // in the encoder: no progress any more

	minNominal, maxNominal = 30, 240 // frames a second that an encoder is told of
)

// video is the picture half of a worker: one goroutine watches the display and
// feeds the encoder, another takes units and writes them.
type video struct {
	spec   media.VideoSpec
	screen *capture.Screen
	codec  *codec
	pacer  *pace.Pacer
	out    *wire.Writer

	nominal       time.Duration // between frames, as the encoder is told
	count         int64         // frames pushed
	width, height int
	damaged       media.Stamp // when the change was told that is not in a picture yet
	picture       media.Stages
	pushed        media.Stamp // the oldest frame that is with the encoder
	counts        media.Counts
	encoded       atomic.Uint64

	done   chan done
	failed chan error

	mu     sync.Mutex // guards stages
	stages map[int64]media.Stages
}

// done is a unit that came out of the encoder.
type done struct{ size int }

// startVideo opens the display and the encoder.
func startVideo(ctx context.Context, display media.Display, spec media.VideoSpec, out *wire.Writer) (*video, error) {
	entry, ok := encoders.Find(spec.Encoder)
	if !ok {
		return nil, media.NewCause(media.CauseNoEncoder, "there is no encoder called %q", spec.Encoder)
	}
	if spec.Codec != "" && entry.Codec != spec.Codec {
		return nil, media.NewCause(media.CauseNoEncoder, "%s makes %s, not %s", entry.Name, entry.Codec, spec.Codec)
	}
	screen, err := capture.Open(ctx, display, capture.Options{Cursor: spec.Cursor})
	if err != nil {
		return nil, &media.Cause{Code: media.CauseDesktop, Detail: err.Error()}
	}
	v := &video{
		spec: spec, screen: screen, out: out,
		done: make(chan done, 64), failed: make(chan error, 2), stages: map[int64]media.Stages{},
	}
	v.width, v.height = evenSize(screen)
	fps := min(max(spec.FPS, minNominal), maxNominal)
	v.nominal = time.Second / time.Duration(fps)
	v.codec, err = newCodec(entry, encoders.Params{Kbps: v.kbps(fps), FPS: fps, Cores: runtime.NumCPU(), Pixels: v.width * v.height})
	if err != nil {
		return nil, err
	}
	v.pacer = pace.New(spec.FPS, v.codec.element.Depth)
	if err := v.codec.setSize(v.width, v.height); err != nil {
		return nil, err
	}
	return v, v.codec.play()
}

func evenSize(s *capture.Screen) (width, height int) {
	width, height = s.Size()
	return max(width&^1, 2), max(height&^1, 2)
}

// kbps is the bitrate to tell an encoder that believes in fps frames a second,
// so that one frame gets its share of the bitrate wanted. A low frame rate does
// not make frames huge: they are to be sent quickly.
func (v *video) kbps(fps int) int {
	return max(v.spec.Kbps*fps/max(v.spec.FPS, fps/4, 1), 1)
}

// run makes pictures until ctx ends or something breaks.
func (v *video) run(ctx context.Context, orders <-chan media.Order) error {
	go v.take(ctx)
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	pointer := v.pointer(ctx)
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-v.failed:
			return err
		case <-v.screen.Ready():
		case <-v.screen.Done():
		case d := <-v.done:
			v.back(d)
		case o := <-orders:
			v.obey(o)
		case <-alarm.C:
		case <-pointer:
			moved, err := v.screen.Pointer(ctx)
			if err != nil {
				return lost(err)
			}
			if moved {
				v.pacer.Changed()
			}
		case <-beat.C:
			if err := v.beat(); err != nil {
				return err
			}
		}
		news, err := v.screen.Take(ctx)
		if err != nil {
			return lost(err)
		}
		if err := v.learn(news); err != nil {
			return err
		}
		for {
			now := media.Now()
			do, key, wake := v.pacer.Next(now)
			if do == pace.Wait {
				if wake != 0 {
					alarm.Reset(wake.Sub(now))
				}
				break
			}
			if err := v.frame(ctx, do, key); err != nil {
				return err
			}
		}
	}
}

// pointer ticks when the pointer is to be looked at, which nobody reports.
func (v *video) pointer(ctx context.Context) <-chan time.Time {
	if !v.spec.Cursor {
		return nil
	}
	t := time.NewTicker(v.nominal)
	context.AfterFunc(ctx, t.Stop)
	return t.C
}

func lost(err error) error {
	return &media.Cause{Code: media.CauseDesktop, Detail: fmt.Sprintf("display lost: %v", err)}
}

// learn notes what happened on the display.
func (v *video) learn(n capture.News) error {
	v.counts.Damaged += uint64(n.Damaged)
	if n.Any() {
		if v.damaged == 0 {
			v.damaged = media.Now()
		}
		v.pacer.Changed()
	}
	if !n.Resized {
		return nil
	}
	width, height := evenSize(v.screen)
	if width == v.width && height == v.height {
		return nil
	}
	v.width, v.height = width, height
	if err := v.codec.setSize(width, height); err != nil {
		return err
	}
	v.pacer.WantKey()
	return v.out.Report(media.Report{Kind: media.ReportResized, Width: width, Height: height})
}

// frame makes a picture if it is to be a new one and gives it to the encoder.
func (v *video) frame(ctx context.Context, do pace.Action, key bool) error {
	if do == pace.Capture {
		if err := v.capture(ctx); err != nil {
			return err
		}
	} else {
		now := media.Now()
		v.picture = media.Stages{Captured: now, Converted: now}
		v.counts.Repeated++
	}
	now := media.Now()
	v.mu.Lock()
	v.stages[v.count] = v.picture
	v.mu.Unlock()
	// The encoder is told of an even rhythm: one that keeps account of time
	// would spend what a pause saved on one huge frame after it.
	if err := v.codec.push(time.Duration(v.count)*v.nominal, v.nominal, key); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	v.count++
	if v.pacer.InFlight() == 0 {
		v.pushed = now
	}
	v.pacer.Sent(now, do)
	return nil
}

// capture makes a new picture.
func (v *video) capture(ctx context.Context) error {
	v.pacer.Taken()
	v.picture = media.Stages{Damage: v.damaged}
	v.damaged = 0
	f, news, err := v.screen.Frame(ctx)
	if err != nil {
		return lost(err)
	}
	captured := media.Now()
	if err := v.learn(news); err != nil {
		return err
	}
	if err := v.codec.picture(f); err != nil {
		return err
	}
	if p, ok := v.screen.Cursor(f); ok {
		if err := v.codec.patch(p); err != nil {
			return err
		}
	}
	v.picture.Captured, v.picture.Converted = captured, media.Now()
	v.counts.Captured++
	return nil
}

// take writes units to the parent as they come out of the encoder.
func (v *video) take(ctx context.Context) {
	ready := false
	for frame := uint32(0); ctx.Err() == nil; {
		u, ok, err := v.codec.pull(time.Second)
		if err != nil {
			v.failed <- fmt.Errorf("encode: %w", err)
			return
		}
		if !ok {
			continue
		}
		if !ready {
			ready = true
			err = v.out.Report(media.Report{Kind: media.ReportReady, Encoder: v.codec.entry.Name, Element: v.codec.element.Factory})
		}
		if err == nil {
			err = v.emit(u, frame)
			frame++
		}
		size := len(u.data)
		v.codec.release()
		if err != nil {
			v.failed <- err
			return
		}
		v.encoded.Add(1)
		v.done <- done{size}
	}
}

// emit writes one unit, straight from GStreamer's memory.
func (v *video) emit(u pulled, frame uint32) error {
	n := int64((u.at + v.nominal/2) / v.nominal)
	v.mu.Lock()
	st, ok := v.stages[n]
	delete(v.stages, n)
	v.mu.Unlock()
	if !ok {
		return fmt.Errorf("encode: a frame of time %v came out that did not go in", u.at)
	}
	st.Encoded = media.Now()
	data := u.data
	if u.key && v.codec.entry.Codec == media.H264 {
		data = h264.Prompt(data)
	}
	st.Emitted = media.Now()
	return v.out.Unit(media.Unit{
		Kind: media.Video, Codec: v.codec.entry.Codec, Key: u.key, Frame: frame,
		Width: uint16(u.width), Height: uint16(u.height), Stages: st, Data: data,
	})
}

// back notes that the encoder gave a frame back.
func (v *video) back(d done) {
	v.counts.Encoded = v.encoded.Load()
	v.pacer.Done(d.size < v.smallFrame())
	v.pushed = media.Now()
}

// smallFrame is the size below which a repeated frame tells nothing new.
func (v *video) smallFrame() int { return 64 + v.width*v.height/256/16 }

// obey carries an order out.
func (v *video) obey(o media.Order) {
	switch o.Kind {
	case media.OrderKeyFrame:
		v.pacer.WantKey()
		return
	case media.OrderBitrate:
		v.spec.Kbps = max(o.Kbps, 1)
	case media.OrderFPS:
		v.spec.FPS = max(o.FPS, 1)
		v.pacer.SetFPS(v.spec.FPS)
	}
	v.codec.setKbps(v.kbps(v.codec.params.FPS))
}

// beat tells the parent that the loop goes round and the encoder gives back
// what it is given.
func (v *video) beat() error {
	if v.pacer.InFlight() > 0 && media.Now().Sub(v.pushed) > stuck {
		return nil
	}
	v.counts.Encoded = v.encoded.Load()
	err := v.out.Report(media.Report{Kind: media.ReportHeartbeat, Counts: v.counts})
	if err != nil {
		return errors.Join(errParent, err)
	}
	return nil
}
