// Package record records what a PulseAudio server's monitor hears. It promises
// that nothing here waits for the server longer than Bound an answer, that sound
// which nobody takes is dropped, and that a Recorder that was closed has no
// goroutine left. It imports jfreymuth/pulse's protocol package.
package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jfreymuth/pulse/proto"

	"fenrir/media"
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
	client *connection
	stream uint32
	frame  int // bytes of a sample of all channels

	fragments chan Fragment
	gone      chan struct{} // closed with the server's last word
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
		sound: sound, frame: 2 * channels, fragments: make(chan Fragment, waiting), gone: make(chan struct{}),
		every: make(chan time.Duration, 1), closing: make(chan struct{}), tuned: make(chan struct{}),
	}
	var err error
	if r.client, err = connect(sound.Server, r.take); err != nil {
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
		Properties:         proto.PropList{"media.name": proto.PropListString("session")},
	}, &reply)
	if err != nil {
		r.client.hangUp()
		<-r.gone
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
func (r *Recorder) Gone() <-chan struct{} { return r.gone }

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
	r.client.hangUp()
	<-r.gone
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
		r.client.hangUp()
	case *proto.ConnectionClosed:
		close(r.gone)
	}
}

// connection is one to a sound server that knows us.
type connection struct {
	*proto.Client
	conn net.Conn
}

// hangUp ends the connection: what waits for an answer gets none, and the callback
// is told that it is closed. It may be called more than once.
func (c *connection) hangUp() { _ = c.conn.Close() }

// connect makes a connection whose messages go to the callback, the last of them
// a *proto.ConnectionClosed. It waits at most Bound for each of two answers.
func connect(server string, callback func(any)) (*connection, error) {
	path, ok := strings.CutPrefix(server, "unix:")
	if !ok {
		return nil, fmt.Errorf("%q is no sound server of ours", server)
	}
	conn, err := net.DialTimeout("unix", path, Bound)
	if err != nil {
		return nil, fmt.Errorf("reach the sound server: %w", err)
	}
	closed := make(chan struct{})
	c := &connection{Client: &proto.Client{}, conn: bounded{conn}}
	c.Callback = func(message any) {
		callback(message)
		if _, ok := message.(*proto.ConnectionClosed); ok {
			close(closed)
		}
	}
	c.SetTimeout(Bound)
	c.Open(c.conn)
	auth := proto.AuthReply{}
	err = c.Request(&proto.Auth{Version: c.Version(), Cookie: make([]byte, 256)}, &auth) // any cookie will do
	if err == nil {
		c.SetVersion(auth.Version)
		err = c.Request(&proto.SetClientName{Props: proto.PropList{"application.name": proto.PropListString("fenrir")}}, &proto.SetClientNameReply{})
	}
	if err != nil {
		c.hangUp()
		<-closed
		return nil, fmt.Errorf("introduce ourselves to the sound server: %w", err)
	}
	return c, nil
}

// bounded is a connection whose writes end, and whose every end looks like EOF:
// the only one that the protocol package tells.
type bounded struct{ net.Conn }

func (b bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

func (b bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(Bound)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Write(p)
	if err != nil {
		_ = b.Close() // the protocol package does not look at errors of writes
	}
	return n, err
}
