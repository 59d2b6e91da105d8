//go:build cgo

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	stuck     = 400 * time.Millisecond // in the encoder, of 1080p or less: no progress any more
	beginning = 10                     // new pictures in a row until they count as moving
	settling  = 2 * time.Second        // until the first frame of a new encoder

	minNominal, maxNominal = 30, 240 // frames a second that an encoder is told of
)

// video is the picture half of a worker: one goroutine watches the display and
// feeds the encoder, another takes units and writes them.
type video struct {
	spec   media.VideoSpec
	screen *capture.Screen
	codec  *codec
	proven bool // it has encoded something
	mute   bool // no heartbeat because of it
	place  place
	pacer  *pace.Pacer
	out    *wire.Writer

	fps           int           // nominal frames a second, as the encoder is told
	nominal       time.Duration // between frames of that rate
	count         int64         // frames pushed
	width, height int           // of the picture
	view          capture.View  // where in it the display is
	damaged       media.Stamp   // when the change was told that is not in a picture yet
	picture       media.Stages
	moving        int         // new pictures in a row
	pushed        media.Stamp // the oldest frame that is with the encoder
	counts        media.Counts
	encoded       atomic.Uint64
	frames        uint32 // units written; of the goroutine that takes them, of which there is one at a time

	done   chan done
	failed chan error

	mu     sync.Mutex // guards stages
	stages map[int64]media.Stages
}

// done is a unit that came out of the encoder.
type done struct {
	codec *codec
	size  int
}

// startVideo opens the display and the encoder.
func startVideo(ctx context.Context, display media.Display, spec media.VideoSpec, out *wire.Writer) (*video, error) {
	entry, ok := encoders.Find(spec.Encoder)
	if !ok {
		return nil, media.NewCause(media.CauseNoEncoder, "there is no encoder called %q", spec.Encoder)
	}
	if spec.Codec != "" && entry.Codec != spec.Codec {
		return nil, media.NewCause(media.CauseNoEncoder, "%s makes %s, not %s", entry.Name, entry.Codec, spec.Codec)
	}
	v := &video{
		spec: spec, out: out,
		done: make(chan done, 64), failed: make(chan error, 2), stages: map[int64]media.Stages{},
	}
	go v.place.watch(ctx)
	v.place.in("opening the display")
	var err error
	if v.screen, err = capture.Open(ctx, display, capture.Options{Cursor: spec.Cursor}); err != nil {
		return nil, &media.Cause{Code: media.CauseDesktop, Detail: err.Error()}
	}
	v.place.in("starting " + entry.Name)
	v.fps = min(max(spec.FPS, minNominal), maxNominal)
	v.nominal = time.Second / time.Duration(v.fps)
	return v, v.encode(entry)
}

// encode starts an encoder for the display's present size. A new one is made
// whenever that changes: not every encoder can change its size, and what is best
// to do depends on it.
func (v *video) encode(entry encoders.Entry) error {
	v.width, v.height, v.view = v.layout(evenSize(v.screen))
	if v.codec != nil {
		if err := v.codec.close(); err != nil {
			return err
		}
	}
	var err error
	v.codec, err = newCodec(entry, encoders.Params{Kbps: v.kbps(), FPS: v.fps, Cores: runtime.NumCPU(), Pixels: v.width * v.height})
	if err != nil {
		return err
	}
	v.proven = false
	v.pacer = pace.New(v.spec.FPS, v.codec.element.Depth)
	if err := v.codec.setSize(v.width, v.height); err != nil {
		return err
	}
	if v.view != capture.Whole(v.width, v.height) {
		if err := v.codec.scale(v.view); err != nil {
			return err
		}
	}
	if err := v.codec.play(); err != nil {
		return err
	}
	go v.take(v.codec)
	return nil
}

func evenSize(s *capture.Screen) (width, height int) {
	width, height = s.Size()
	return max(width&^1, 2), max(height&^1, 2)
}

// layout is the size of the picture of a display of w×h, all even, and where in it
// the display is shown: as large as it fits, with its own proportions.
func (v *video) layout(w, h int) (width, height int, view capture.View) {
	width, height = v.spec.Width&^1, v.spec.Height&^1
	if width <= 0 || height <= 0 {
		percent := 100
		if v.spec.Scale != 0 {
			percent = min(max(v.spec.Scale, 25), 100)
		}
		width, height = max(w*percent/100&^1, 2), max(h*percent/100&^1, 2)
		return width, height, capture.View{FromWidth: w, FromHeight: h, Width: width, Height: height}
	}
	view = capture.View{FromWidth: w, FromHeight: h, Width: width, Height: height}
	if w*height > h*width { // wider than the picture
		view.Height = max((h*width/w+1)&^1, 2)
	} else {
		view.Width = max((w*height/h+1)&^1, 2)
	}
	view.X, view.Y = (width-view.Width)/2&^1, (height-view.Height)/2&^1
	return width, height, view
}

// change makes a new encoder in the place of the present one. Hardware may need
// longer for it than the parent is willing to hear nothing.
func (v *video) change() error {
	changed := make(chan error, 1)
	go func() { changed <- v.encode(v.codec.entry) }()
	bound := time.NewTimer(settling)
	defer bound.Stop()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case err := <-changed:
			return err
		case <-bound.C:
			return errors.New("change the encoder's size: it hangs")
		case <-beat.C:
			if err := v.out.Report(media.Report{Kind: media.ReportHeartbeat, Counts: v.counts}); err != nil {
				return errors.Join(errParent, err)
			}
		}
	}
}

// kbps is the bitrate to tell an encoder that believes in the nominal frame
// rate, so that one frame gets its share of the bitrate wanted. A low frame rate
// does not make frames huge: they are to be sent quickly.
func (v *video) kbps() int {
	return max(v.spec.Kbps*v.fps/max(v.spec.FPS, v.fps/4), 1)
}

// run makes pictures until ctx ends or something breaks.
func (v *video) run(ctx context.Context, orders <-chan media.Order) error {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	alarm := time.NewTimer(0)
	defer alarm.Stop()
	pointer := v.pointer(ctx)
	for {
		v.place.in("")
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
			if err := v.obey(o); err != nil {
				return err
			}
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
		v.place.in("looking at the display")
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
	if v.view.FromWidth == width && v.view.FromHeight == height {
		return nil
	}
	if err := v.change(); err != nil {
		return err
	}
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
	v.place.in("giving a picture to the encoder")
	v.codec.setMood(v.mood(do))
	now := media.Now()
	v.mu.Lock()
	v.stages[v.count] = v.picture
	v.mu.Unlock()
	// The encoder is told of an even rhythm: one that keeps account of time
	// would spend what a pause saved on one huge frame after it.
	if err := v.codec.push(time.Duration(v.count)*v.nominal, v.nominal, do == pace.Repeat, key); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	v.count++
	if v.pacer.InFlight() == 0 {
		v.pushed = now
	}
	v.pacer.Sent(now, do)
	return nil
}

// mood counts pictures to tell whether they move.
func (v *video) mood(do pace.Action) encoders.Mood {
	if do == pace.Repeat {
		v.moving = 0
		return encoders.Still
	}
	if v.moving++; v.moving <= beginning {
		return encoders.Beginning
	}
	return encoders.Moving
}

// capture makes a new picture.
func (v *video) capture(ctx context.Context) error {
	v.pacer.Taken()
	v.picture = media.Stages{Damage: v.damaged}
	v.damaged = 0
	v.place.in("waiting for the display")
	f, news, err := v.screen.Frame(ctx)
	if err != nil {
		return lost(err)
	}
	captured := media.Now()
	if err := v.learn(news); err != nil {
		return err
	}
	v.place.in("converting a picture")
	if f, err = v.codec.picture(f); err != nil {
		return err
	}
	if p, ok := v.screen.Cursor(f, v.view); ok {
		if err := v.codec.patch(p); err != nil {
			return err
		}
	}
	v.picture.Captured, v.picture.Converted = captured, media.Now()
	v.counts.Captured++
	return nil
}

// take writes units to the parent as they come out of an encoder, until that is
// retired.
func (v *video) take(c *codec) {
	defer close(c.taken)
	fail := func(err error) {
		select {
		case v.failed <- err:
		default: // one reason is enough
		}
	}
	for {
		u, ok, err := c.pull(time.Second)
		switch {
		case c.retired.Load():
			if ok {
				c.release()
			}
			return
		case err != nil:
			fail(fmt.Errorf("encode: %w", err))
			return
		case !ok:
			continue
		}
		err = v.emit(c, u)
		size := len(u.data)
		c.release()
		if err != nil {
			fail(err)
			return
		}
		v.encoded.Add(1)
		v.done <- done{c, size}
	}
}

// emit writes one unit, straight from GStreamer's memory.
func (v *video) emit(c *codec, u pulled) error {
	if v.frames == 0 {
		err := v.out.Report(media.Report{Kind: media.ReportReady, Encoder: c.entry.Name, Element: c.element.Factory})
		if err != nil {
			return errors.Join(errParent, err)
		}
	}
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
	if u.key && c.entry.Codec == media.H264 {
		data = h264.Prompt(data)
	}
	st.Emitted = media.Now()
	err := v.out.Unit(media.Unit{
		Kind: media.Video, Codec: c.entry.Codec, Key: u.key, Frame: v.frames,
		Width: uint16(u.width), Height: uint16(u.height), Stages: st, Data: data,
	})
	if err != nil {
		return errors.Join(errParent, err)
	}
	v.frames++
	return nil
}

// back notes that the encoder gave a frame back.
func (v *video) back(d done) {
	v.counts.Encoded = v.encoded.Load()
	if d.codec != v.codec {
		return
	}
	v.proven = true
	settled, owed := v.codec.learn(d.size, v.smallFrame())
	v.pacer.Done(settled)
	v.pacer.Pause(time.Duration(owed * float64(v.nominal)))
	v.pushed = media.Now()
}

// smallFrame is the size below which a repeated frame tells nothing new.
func (v *video) smallFrame() int { return 64 + v.width*v.height/256/16 }

// obey carries an order out.
func (v *video) obey(o media.Order) error {
	switch o.Kind {
	case media.OrderKeyFrame:
		v.pacer.WantKey()
		return nil
	case media.OrderPrompt:
		v.pacer.Prompt(media.Now())
		return nil
	case media.OrderScale:
		v.spec.Scale = o.Scale
		if w, h, _ := v.layout(v.view.FromWidth, v.view.FromHeight); w == v.width && h == v.height {
			return nil
		}
		return v.change()
	case media.OrderBitrate:
		v.spec.Kbps = max(o.Kbps, 1)
	case media.OrderFPS:
		v.spec.FPS = max(o.FPS, 1)
		v.pacer.SetFPS(v.spec.FPS)
	}
	v.codec.setKbps(v.kbps())
	return nil
}

// beat tells the parent that the loop goes round and the encoder gives back
// what it is given.
func (v *video) beat() error {
	patience := stuck * time.Duration(max(v.width*v.height/(1920*1080), 1))
	if !v.proven {
		patience = settling
	}
	if busy := media.Now().Sub(v.pushed); v.pacer.InFlight() > 0 && busy > patience {
		if !v.mute {
			fmt.Fprintf(os.Stderr, "picture: %s has had a frame for %v\n", v.codec.element.Factory, busy.Round(time.Millisecond))
		}
		v.mute = true
		return nil
	}
	v.mute = false
	v.counts.Encoded = v.encoded.Load()
	err := v.out.Report(media.Report{Kind: media.ReportHeartbeat, Counts: v.counts})
	if err != nil {
		return errors.Join(errParent, err)
	}
	return nil
}
