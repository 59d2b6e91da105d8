//go:build cgo

package pipeline

/*
#include "native.h"
*/
import "C"

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unsafe"

	"github.com/go-gst/go-gst/gst"

	"fenrir/media"
	"fenrir/media/wire"
)

const (
	soundPoll    = 50 * time.Millisecond   // between looks at the pipeline's errors
	soundQuiet   = 500 * time.Millisecond  // without a packet until the sound counts as lost
	soundFirst   = 2500 * time.Millisecond // until the first packet, which a slow sink may take
	soundRouse   = 60 * time.Millisecond   // without a first packet until the sink is roused
	soundRetry   = 100 * time.Millisecond  // the first pause between two attempts
	soundRetries = 500 * time.Millisecond  // the longest

	silence      = 3                      // bytes of a packet that has nothing to tell, at most
	silenceAfter = 200 * time.Millisecond // of such packets until they are left out
	silenceEvery = 400 * time.Millisecond // one is sent all the same
)

// audio is the sound half of a worker. Whatever the sound server does, only
// this half waits for it.
type audio struct {
	sound media.Sound
	spec  media.AudioSpec
	out   *wire.Writer
	alone bool // there is no picture: the heartbeat is made here

	frame  uint32
	told   bool        // whether the parent knows how it stands
	ok     bool        // what the parent knows
	at     media.Stamp // capture of the last packet
	loud   media.Stamp // capture of the last packet that had something to tell
	sent   media.Stamp // capture of the last packet that was passed on
	paused bool        // packets are left out
	beaten media.Stamp
}

// runAudio records and encodes until ctx ends or the parent is gone. A sound
// server that is not there, or dies, is reported and waited for.
func runAudio(ctx context.Context, sound media.Sound, spec media.AudioSpec, out *wire.Writer, alone bool) error {
	a := &audio{sound: sound, spec: spec, out: out, alone: alone}
	if err := spec.Check(); err != nil {
		return err
	}
	if path, ok := strings.CutPrefix(sound.Server, "unix:"); ok {
		// libpulse would make a folder of its own in /tmp, and leave it there.
		if err := os.Setenv("PULSE_RUNTIME_PATH", filepath.Dir(path)); err != nil {
			return fmt.Errorf("prepare sound: %w", err)
		}
	}
	pause := soundRetry
	var p *gst.Pipeline
	var sink *C.GstElement
	for ctx.Err() == nil {
		if p == nil {
			var err error
			if p, sink, err = a.build(); err != nil {
				return err
			}
		}
		before := a.frame
		if err := a.play(ctx, p, sink); errors.Is(err, errParent) {
			return err
		}
		if err := a.tell(false); err != nil {
			return err
		}
		if !stop(p) {
			p = nil // it hangs, and is left to itself
		}
		if a.frame > before {
			pause = soundRetry
		}
		if err := a.rest(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, soundRetries)
	}
	return nil
}

// build makes a pipeline from the sound server to Opus packets. It is used
// again and again.
func (a *audio) build() (*gst.Pipeline, *C.GstElement, error) {
	p, err := gst.NewPipelineFromString(fmt.Sprintf(
		"pulsesrc name=source client-name=fenrir provide-clock=false buffer-time=40000 latency-time=%d"+
			" ! %s ! opusenc bitrate=%d frame-size=%d complexity=5 %s ! %s"+
			" ! appsink name=sink sync=false max-buffers=64 drop=true enable-last-sample=false",
		min(1000*a.spec.FrameMs, 10000), mixing(a.sound.Channels, a.spec.Channels), 1000*a.spec.Kbps, a.spec.FrameMs, opusMode(a.spec), opusCaps(a.spec)))
	if err != nil {
		return nil, nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	source, err := p.GetElementByName("source")
	if err != nil {
		return nil, nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	for name, value := range map[string]string{"server": a.sound.Server, "device": a.sound.Source} {
		if err := source.SetProperty(name, value); err != nil {
			return nil, nil, fmt.Errorf("build sound pipeline: set %s: %w", name, err)
		}
	}
	sink, err := p.GetElementByName("sink")
	if err != nil {
		return nil, nil, fmt.Errorf("build sound pipeline: %w", err)
	}
	// One clock for all, so that stamps of sound and picture can be compared.
	p.ForceClock(gst.ObtainSystemClock().Clock)
	return p, cElement(sink), nil
}

// play passes packets on until the sound is lost, which is no error of ours.
func (a *audio) play(ctx context.Context, p *gst.Pipeline, sink *C.GstElement) error {
	if err := p.SetState(gst.StatePlaying); err != nil {
		return err
	}
	last := media.Now()
	first := true
	began := last
	var roused chan struct{} // closed when that is done
	defer func() {
		if roused != nil {
			<-roused // its waits are bounded
		}
	}()
	var unit C.fenrir_unit
	for ctx.Err() == nil {
		switch C.fenrir_pull(sink, C.guint64(soundPoll), &unit) {
		case C.FENRIR_OK:
			last = media.Now()
			// A source that had to catch up may be ahead of the clock for a moment.
			captured := media.Stamp(uint64(unit.pts)) + media.Stamp(p.GetBaseTime())
			a.at = max(a.at, min(captured, last.Add(-time.Duration(a.spec.FrameMs)*time.Millisecond)))
			err := a.tell(true)
			if err == nil {
				err = a.emit(a.at, unsafe.Slice((*byte)(unsafe.Pointer(unit.mapped.data)), int(unit.mapped.size)))
			}
			C.fenrir_unit_release(&unit)
			if err != nil {
				return err
			}
			first = false
		case C.FENRIR_EMPTY:
			quiet := soundQuiet
			if first {
				quiet = soundFirst
				if roused == nil && media.Now().Sub(began) > soundRouse {
					roused = make(chan struct{})
					go func() {
						defer close(roused)
						if err := rouse(a.sound); err != nil && !errors.Is(err, errNotNull) {
							fmt.Fprintln(os.Stderr, "sound:", err)
						}
					}()
				}
			}
			if media.Now().Sub(last) > quiet {
				return errors.New("no sound comes")
			}
		default:
			return busError(p, 0, errEnded)
		}
		if err := a.beat(); err != nil {
			return err
		}
		if err := busError(p, 0, nil); err != nil {
			return err
		}
	}
	return nil
}

// emit passes a packet on. Of silence that lasts, next to nothing is: an empty
// packet, which every decoder takes as the begin of a pause (DTX, RFC 7587,
// section 3.1.3), and again one for those who come later. A hundred packets a second
// cost everybody on their way more than a still picture does. Who wants packets of
// one length gets all of them.
func (a *audio) emit(captured media.Stamp, data []byte) error {
	if len(data) > silence || a.sent == 0 || a.spec.Constant {
		a.loud = captured
	}
	if captured.Sub(a.loud) > silenceAfter {
		if captured.Sub(a.sent) < silenceEvery && a.paused {
			return nil
		}
		a.paused = true
		data = data[:1]
	} else {
		a.paused = false
	}
	a.sent = captured
	now := media.Now()
	err := a.out.Unit(media.Unit{
		Kind: media.Audio, Codec: media.Opus, Key: true, Frame: a.frame,
		Stages: media.Stages{Captured: captured, Encoded: now, Emitted: now}, Data: data,
	})
	if err != nil {
		return errors.Join(errParent, err)
	}
	a.frame++
	return nil
}

// tell reports whether sound flows, when that is news.
func (a *audio) tell(ok bool) error {
	if a.told && a.ok == ok {
		return nil
	}
	if !a.told && a.alone {
		if err := a.out.Report(media.Report{Kind: media.ReportReady}); err != nil {
			return errors.Join(errParent, err)
		}
	}
	a.told, a.ok = true, ok
	if err := a.out.Report(media.Report{Kind: media.ReportSound, SoundOK: ok}); err != nil {
		return errors.Join(errParent, err)
	}
	return nil
}

// beat makes the heartbeat of a worker without a picture.
func (a *audio) beat() error {
	if now := media.Now(); a.alone && now.Sub(a.beaten) >= beatEvery {
		a.beaten = now
		if err := a.out.Report(media.Report{Kind: media.ReportHeartbeat}); err != nil {
			return errors.Join(errParent, err)
		}
	}
	return nil
}

// rest waits between two attempts, and keeps the heartbeat up.
func (a *audio) rest(ctx context.Context, pause time.Duration) error {
	end := time.NewTimer(pause)
	defer end.Stop()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-end.C:
			return nil
		case <-tick.C:
			if err := a.beat(); err != nil {
				return err
			}
		}
	}
}
