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
	"time"
	"unsafe"

	"fenrir/media"
	"fenrir/media/pipeline/record"
	"fenrir/media/wire"
)

const (
	soundPoll    = 60 * time.Millisecond   // without sound until it is asked what is the matter; longer than restEvery
	soundQuiet   = 500 * time.Millisecond  // without sound until it counts as lost
	soundFirst   = 2500 * time.Millisecond // until the first sound, which a slow sink may take
	soundRetry   = 100 * time.Millisecond  // the first pause between two attempts
	soundRetries = 500 * time.Millisecond  // the longest

	silence      = 3                      // bytes of a packet that has nothing to tell, at most
	silenceAfter = 200 * time.Millisecond // of such packets until they are left out
	silenceEvery = 400 * time.Millisecond // one is sent all the same

	// Where nothing at all has been played for restAfter, sound comes in longer
	// fragments, which costs a fifth, and is not encoded. What then begins to play
	// is late by less than one of these, once.
	restAfter = 2 * time.Second
	restEvery = 50 * time.Millisecond

	longest = 10 * time.Millisecond // of a fragment that is encoded
	skew    = 40 * time.Millisecond // between the count of samples and the clock that is let pass
)

// audio is the sound half of a worker. Whatever the sound server does, only
// this half waits for it.
type audio struct {
	sound media.Sound
	spec  media.AudioSpec
	out   *wire.Writer
	alone bool // there is no picture: the heartbeat is made here

	frame   uint32
	told    bool        // whether the parent knows how it stands
	ok      bool        // what the parent knows
	due     media.Stamp // when the next fragment begins, by the count of samples
	played  media.Stamp // end of the last fragment in which something was played
	resting bool        // nothing is encoded
	at      media.Stamp // capture of the last packet
	loud    media.Stamp // capture of the last packet that had something to tell
	sent    media.Stamp // capture of the last packet that was passed on
	first   byte        // of the last packet: what an empty one consists of
	paused  bool        // packets are left out
	beaten  media.Stamp
}

// runAudio records and encodes until ctx ends or the parent is gone. A sound
// server that is not there, or dies, is reported and waited for.
func runAudio(ctx context.Context, sound media.Sound, spec media.AudioSpec, out *wire.Writer, alone bool) error {
	a := &audio{sound: sound, spec: spec, out: out, alone: alone}
	if err := spec.Check(); err != nil {
		return err
	}
	pause := soundRetry
	var o *opus
	for ctx.Err() == nil {
		if o == nil {
			var err error
			if o, err = newOpus(sound, spec); err != nil {
				return err
			}
		}
		before := a.frame
		err := a.play(ctx, o)
		if errors.Is(err, errParent) {
			return err
		}
		if errors.Is(err, errOpus) {
			fmt.Fprintln(os.Stderr, "sound:", err)
			o.close()
			o = nil
		}
		if err := a.tell(false); err != nil {
			return err
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

// fragment is how long the fragments are that sound is encoded in.
func (a *audio) fragment() time.Duration {
	return min(time.Duration(a.spec.FrameMs)*time.Millisecond, longest)
}

// play records and passes packets on until the sound is lost, which is no error of
// ours.
func (a *audio) play(ctx context.Context, o *opus) error {
	r, err := a.open(ctx)
	if err != nil {
		return err
	}
	var roused chan struct{} // closed when that is done
	defer func() {
		r.Close()
		if n := r.Lost(); n > 0 {
			fmt.Fprintf(os.Stderr, "sound: %d fragments came while this process was held up, and are lost\n", n)
		}
		if roused != nil {
			<-roused // the connection it uses is closed
		}
	}()
	a.resting, a.due = false, 0
	began := media.Now()
	last, first := began, true
	poll := time.NewTimer(soundPoll)
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.Gone():
			return record.ErrGone
		case f := <-r.Fragments():
			poll.Reset(soundPoll)
			last, first = f.Arrived, false
			if err := a.hear(o, r, f); err != nil {
				return err
			}
		case <-poll.C:
			poll.Reset(soundPoll)
			quiet := soundQuiet
			if first {
				quiet = soundFirst
				if roused == nil {
					roused = make(chan struct{})
					go func() {
						defer close(roused)
						if err := r.Rouse(); err != nil && !errors.Is(err, record.ErrNotNull) {
							fmt.Fprintln(os.Stderr, "sound:", err)
						}
					}()
				}
			}
			if media.Now().Sub(last) > quiet {
				return errors.New("no sound comes")
			}
		}
		if err := a.beat(); err != nil {
			return err
		}
	}
}

// open starts the recording, and keeps the heartbeat up for as long as the sound
// server takes.
func (a *audio) open(ctx context.Context) (*record.Recorder, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type opened struct {
		r   *record.Recorder
		err error
	}
	done := make(chan opened)
	go func() { // its waits are bounded
		r, err := record.Open(a.sound, a.fragment())
		select {
		case done <- opened{r, err}:
		case <-ctx.Done():
			if err == nil {
				r.Close()
			}
		}
	}()
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			return o.r, o.err
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
			if err := a.beat(); err != nil {
				return nil, err
			}
		}
	}
}

// hear encodes a fragment and passes on what comes of it.
func (a *audio) hear(o *opus, r *record.Recorder, f record.Fragment) error {
	d := r.Duration(f.PCM)
	begin := f.Arrived.Add(-d)
	// By the count of samples, which is steadier, as long as it is right.
	if late := begin.Sub(a.due); late > 0 && late < skew {
		begin = a.due
	}
	a.due = begin.Add(d)
	if a.played == 0 || !f.Silent() {
		a.played = a.due
	}
	if err := a.tell(true); err != nil {
		return err
	}
	rests := a.paused && !a.spec.Constant && begin.Sub(a.played) > restAfter
	if rests != a.resting {
		a.resting = rests
		if rests {
			r.Every(restEvery)
		} else {
			r.Every(a.fragment())
		}
	}
	if rests {
		a.at = max(a.at, begin)
		return a.emit(a.at, []byte{a.first})
	}
	if err := o.push(begin, d, f.PCM); err != nil {
		return err
	}
	for {
		var unit C.fenrir_unit
		switch C.fenrir_pull(o.sink, 0, &unit) {
		case C.FENRIR_OK:
			captured := media.Stamp(unit.pts)
			if begin.Sub(captured) > skew { // it begins with what was left over when the rest began
				captured = begin
			}
			a.at = max(a.at, min(captured, media.Now().Add(-time.Duration(a.spec.FrameMs)*time.Millisecond)))
			err := a.emit(a.at, unsafe.Slice((*byte)(unsafe.Pointer(unit.mapped.data)), int(unit.mapped.size)))
			C.fenrir_unit_release(&unit)
			if err != nil {
				return err
			}
		case C.FENRIR_EMPTY:
			return nil
		default:
			return o.broken()
		}
	}
}

// emit passes a packet on. Of silence that lasts, next to nothing is: an empty
// packet, which every decoder takes as the begin of a pause (DTX, RFC 7587,
// section 3.1.3), and again one for those who come later. A hundred packets a second
// cost everybody on their way more than a still picture does. Who wants packets of
// one length gets all of them.
func (a *audio) emit(captured media.Stamp, data []byte) error {
	if len(data) == 0 {
		return nil // an encoder makes none
	}
	if len(data) > silence || a.sent == 0 || a.spec.Constant {
		a.loud = captured
	}
	a.first = data[0]
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
