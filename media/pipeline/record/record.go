// Package record records what a PulseAudio server's monitor hears. It promises
// that nothing here waits for the server longer than Bound an answer, that sound
// which nobody takes is dropped, and that a Recorder that was closed has no
// goroutine left. It imports media, media/pulse and jfreymuth/pulse's protocol package.
package record

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jfreymuth/pulse/proto"

	"fenrir/media"
	"fenrir/media/pulse"
)

const (
	// Bound is how long the server may take for one answer.
	Bound = time.Second

	// Rate is in samples a second; each is 16 bits, little-endian, of each channel.
	Rate = 48000

	waiting = 32 // fragments that nobody has taken yet, at most
)

// maps are the loudspeakers of a card in the order of media.AudioFormat.Mapping.
var maps = map[int]proto.ChannelMap{
	2: {proto.ChannelFrontLeft, proto.ChannelFrontRight},
	6: {proto.ChannelFrontLeft, proto.ChannelFrontRight, proto.ChannelFrontCenter, proto.ChannelLFE, proto.ChannelRearLeft, proto.ChannelRearRight},
	8: {proto.ChannelFrontLeft, proto.ChannelFrontRight, proto.ChannelFrontCenter, proto.ChannelLFE, proto.ChannelRearLeft, proto.ChannelRearRight, proto.ChannelLeftSide, proto.ChannelRightSide},
}

// props tell the server's user who records.
var props = proto.PropList{"application.name": proto.PropListString("fenrir"), "media.name": proto.PropListString("session")}

// ErrGone is why there is no more sound: the server ended the recording.
var ErrGone = errors.New("the sound server is gone")

// Fragment is a stretch of sound.
type Fragment struct {
	Arrived media.Stamp // of its last sample, a moment after that was played
	PCM     []byte      // whole samples of all channels, interleaved; the receiver's
}

// Silent tells whether nothing was played.
func (f Fragment) Silent() bool {
	for _, b := range f.PCM {
		if b != 0 {
			return false
		}
	}
	return true
}

// Recorder is a recording that runs. The one who opened it closes it.
type Recorder struct {
	sound  media.Sound
	client *pulse.Conn
	stream uint32
	frame  int // bytes of a sample of all channels

	fragments chan Fragment
	every     chan time.Duration
	closing   chan struct{}
	tuned     chan struct{} // closed when tune is through
	lost      atomic.Uint64
}

// Open starts a recording of a source in fragments of the given length. It waits at
// most Bound for each of four answers of the server.
func Open(sound media.Sound, every time.Duration) (*Recorder, error) {
	channels := max(sound.Channels, 2)
	speakers := maps[channels]
	if speakers == nil {
		return nil, fmt.Errorf("record: no card has %d channels", channels)
	}
	r := &Recorder{
		sound: sound, frame: 2 * channels, fragments: make(chan Fragment, waiting),
		every: make(chan time.Duration, 1), closing: make(chan struct{}), tuned: make(chan struct{}),
	}
	path, ok := strings.CutPrefix(sound.Server, "unix:")
	if !ok {
		return nil, fmt.Errorf("record: %q is no sound server of ours", sound.Server)
	}
	conn, err := net.DialTimeout("unix", path, Bound)
	if err != nil {
		return nil, fmt.Errorf("record: reach the sound server: %w", err)
	}
	if r.client, err = pulse.New(conn, pulse.Login{Bound: Bound, Props: props}, r.take); err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	volumes := make(proto.ChannelVolumes, channels)
	for i := range volumes {
		volumes[i] = uint32(proto.VolumeNorm)
	}
	var reply proto.CreateRecordStreamReply
	err = r.client.Request(&proto.CreateRecordStream{
		SampleSpec:         proto.SampleSpec{Format: proto.FormatInt16LE, Channels: byte(channels), Rate: Rate},
		ChannelMap:         speakers,
		SourceIndex:        proto.Undefined,
		SourceName:         sound.Source,
		BufferMaxLength:    proto.Undefined,
		BufferFragSize:     r.size(every),
		EarlyRequests:      true, // the server's own steps are as long as fragments, not half of it
		DirectOnInputIndex: proto.Undefined,
		ChannelVolumes:     volumes,
		Properties:         props,
	}, &reply)
	if err != nil {
		r.client.Close()
		return nil, fmt.Errorf("record %s: %w", sound.Source, err)
	}
	r.stream = reply.StreamIndex
	go r.tune()
	return r, nil
}

// size is how many bytes so much sound has.
func (r *Recorder) size(d time.Duration) uint32 {
	return uint32(int64(d)*Rate/int64(time.Second)) * uint32(r.frame)
}

// Duration is how long so much sound takes.
func (r *Recorder) Duration(pcm []byte) time.Duration {
	return time.Duration(len(pcm)/r.frame) * time.Second / Rate
}

// Fragments are what is recorded. Who takes them too slowly lacks some.
func (r *Recorder) Fragments() <-chan Fragment { return r.fragments }

// Gone is closed when there will be no more.
func (r *Recorder) Gone() <-chan struct{} { return r.client.Gone() }

// Lost is how many fragments nobody took in time.
func (r *Recorder) Lost() uint64 { return r.lost.Load() }

// Every asks for fragments of another length, from a moment on. It does not wait.
func (r *Recorder) Every(d time.Duration) {
	for {
		select {
		case r.every <- d:
			return
		default:
		}
		select {
		case <-r.every: // nobody needs an older wish
		default:
		}
	}
}

// Close ends the recording. It waits for a request that is under way, which
// ends with the connection.
func (r *Recorder) Close() {
	close(r.closing)
	r.client.Close()
	<-r.tuned
}

// tune passes wishes on. A server that does not heed one sends no sound either,
// or sound in fragments that are as good.
func (r *Recorder) tune() {
	defer close(r.tuned)
	for {
		select {
		case d := <-r.every:
			_ = r.client.Request(&proto.SetRecordStreamBufferAttr{
				StreamIndex: r.stream, BufferMaxLength: proto.Undefined, BufferFragSize: r.size(d), EarlyRequests: true,
			}, &proto.SetRecordStreamBufferAttrReply{})
		case <-r.closing:
			return
		}
	}
}

// take is told everything that the server sends.
func (r *Recorder) take(message any) {
	switch m := message.(type) {
	case *proto.DataPacket: // there is one stream
		f := Fragment{Arrived: media.Now(), PCM: bytes.Clone(m.Data[:len(m.Data)/r.frame*r.frame])}
		select {
		case r.fragments <- f:
		default:
			r.lost.Add(1)
		}
	case *proto.RecordStreamKilled:
		r.client.HangUp()
	}
}
