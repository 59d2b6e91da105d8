package moonlight

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/moonlight/av"
	"fenrir/signaling/moonlight/control"
	"fenrir/signaling/moonlight/enet"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/rtsp"
)

// Times of a stream's end.
const (
	sayTimeout   = 300 * time.Millisecond // for the client to acknowledge why
	leaveTimeout = 300 * time.Millisecond // and that it is over
)

// burstFactor is how much faster than the budget the packets of a large frame go.
const burstFactor = 4

// Stream is one client's. Serve owns it.
type Stream struct {
	server *Server
	launch *launch.Launch
	config rtsp.Config
	to     *ends
	att    signaling.Attachment
	log    *slog.Logger

	peer   chan *enet.Peer // room for one
	opener *control.Opener
	sealer *control.Sealer
	video  *av.Video
	key    launch.Key // zeroed at the end

	ctx    context.Context
	cancel context.CancelCauseFunc

	mu      sync.Mutex // guards percent
	percent av.Percent
	parity  atomic.Int32 // percent, as of now

	counts struct {
		frames, sounds, unsent, inputs, unknown, forged, keys, lost atomic.Uint64
	}
}

// newStream attaches to the session.
func newStream(s *Server, l *launch.Launch, c rtsp.Config, to *ends) (st *Stream, err error) {
	key, ok := l.Key()
	if !ok {
		return nil, launch.ErrClosed
	}
	st = &Stream{server: s, launch: l, config: c, to: to, key: key, peer: make(chan *enet.Peer, 1)}
	legacy := c.Seal&rtsp.SealControl == 0
	if st.opener, err = control.NewOpener(key, legacy); err != nil {
		return nil, err
	}
	if st.sealer, err = control.NewSealer(key, legacy); err != nil {
		return nil, err
	}
	packets := av.VideoConfig{PacketSize: c.PacketSize, MinParity: c.MinParity}
	if c.Seal&rtsp.SealVideo != 0 {
		packets.Key = key[:]
	}
	if st.video, err = av.NewVideo(packets); err != nil {
		return nil, err
	}
	percent := st.percent.Now(time.Now())
	st.parity.Store(int32(percent))
	video, sound := wishes(c)
	st.att, err = s.Attach(l.Terms, media.PeerSpec{
		ID: "moonlight-" + l.Device, Person: l.Person, Transport: "moonlight", Codecs: []media.Codec{c.Codec},
		MaxKbps: c.VideoKbps(percent), Unmeasured: true,
		Video: video, Audio: sound,
	})
	if err != nil {
		return nil, err
	}
	st.log = s.Log.With("session", l.Session, "peer", st.att.ID(), "transport", "moonlight")
	st.ctx, st.cancel = context.WithCancelCause(st.att.Context())
	return st, nil
}

// wishes are what a client wants of a session. It draws no cursor itself.
func wishes(c rtsp.Config) (media.VideoWish, *media.AudioSpec) {
	sound := c.Sound()
	return media.VideoWish{Width: c.Width, Height: c.Height, FPS: c.FPS, Cursor: true}, &sound
}

// Forecast is what a client that launches with that mode, and stereo, mostly wants.
func Forecast(width, height, fps int) (media.VideoWish, *media.AudioSpec) {
	return wishes(rtsp.Config{Width: width &^ 1, Height: height &^ 1, FPS: fps, Channels: 2, FrameMs: 5})
}

// finish ends the stream and does not block; the first cause wins.
func (st *Stream) finish(cause *media.Cause) { st.cancel(cause) }

// Serve waits for the client, streams until it leaves, ctx or the attachment ends, and
// says goodbye. It returns within a second after that.
func (st *Stream) Serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { st.cancel(context.Cause(ctx)) })
	defer stop()
	defer func() {
		st.launch.End()
		clear(st.key[:])
	}()
	began := time.Now()
	var peer *enet.Peer
	select {
	case peer = <-st.peer:
	case <-st.ctx.Done():
		st.att.Detach(causeOf(st.ctx))
		return
	case <-st.launch.Done():
		st.att.Detach(&media.Cause{Code: media.CauseLost, Detail: "the client did not connect"})
		return
	}
	st.log.Info("moonlight client connected", "device", st.launch.Device, "person", st.launch.Person.ID, "client", peer.Addr(), "codec", st.config.Codec,
		"width", st.config.Width, "height", st.config.Height, "fps", st.config.FPS, "kbps", st.config.BudgetKbps, "sealed", int(st.config.Seal), "channels", st.config.Channels)
	var pumps sync.WaitGroup
	pumps.Go(func() { st.pumpVideo(st.ctx) })
	pumps.Go(func() { st.pumpAudio(st.ctx) })
	pumps.Go(func() { st.obey(st.ctx, peer) })
	<-st.ctx.Done()
	cause := causeOf(st.ctx)
	st.att.Detach(cause)
	pumps.Wait() // all of it sees ctx
	st.goodbye(ctx, peer, cause)
	st.log.Info("moonlight client gone", "cause", cause.Code, "detail", cause.Detail, "took", time.Since(began).Round(time.Millisecond),
		"frames", st.counts.frames.Load(), "unsent", st.counts.unsent.Load(), "lost_frames", st.counts.lost.Load(), "key_frames_asked", st.counts.keys.Load(),
		"inputs", st.counts.inputs.Load(), "unknown", st.counts.unknown.Load(), "forged", st.counts.forged.Load())
}

func causeOf(ctx context.Context) *media.Cause {
	var c *media.Cause
	if errors.As(context.Cause(ctx), &c) {
		return c
	}
	return &media.Cause{Code: media.CauseShutdown}
}

// goodbye tells the client why it is over, and waits for it to hear that: without it
// clients show an error.
func (st *Stream) goodbye(ctx context.Context, peer *enet.Peer, cause *media.Cause) {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), sayTimeout)
	defer cancel()
	sealed, err := st.sealer.Seal(nil, signaling.AppendTermination(nil, control.Reason(cause)))
	if err == nil && peer.Send(0, sealed) == nil {
		_ = peer.Acknowledged(bounded) // who does not hear it finds out
	}
	peer.Disconnect()
	select {
	case <-peer.Done():
	case <-time.After(leaveTimeout):
	}
}

// pumpVideo sends the session's frames until ctx ends.
func (st *Stream) pumpVideo(ctx context.Context) {
	select {
	case <-st.to.video.Found():
	case <-ctx.Done():
		return
	}
	st.to.video.SetPace(st.config.BudgetKbps * 1000 * burstFactor)
	for told := false; ; {
		u, err := st.att.NextVideo(ctx)
		if err != nil {
			return
		}
		f := av.Frame{Data: u.Data, Type: av.Ordinary, Timestamp: uint32(u.Stages.Captured * 9 / 100_000)}
		if u.Key {
			f.Type = av.IDR
			f.Data = av.TrimSEI(nil, u.Codec, u.Data)
			if at := av.SliceAt(u.Codec, f.Data); at > st.video.First() && !told {
				told = true
				st.log.Error("clients will not find the key frames: they begin too late", "bytes", at)
			}
		}
		f.Latency = media.Now().Sub(u.Stages.Captured)
		packets, err := st.video.Packets(f, int(st.parity.Load()))
		if err != nil {
			st.counts.unsent.Add(1)
			st.log.Warn("frame left out", "err", err)
			st.att.RequestKeyFrame()
			continue
		}
		if err := st.to.video.Send(ctx, packets); err != nil {
			st.counts.unsent.Add(1) // no path just now; the control stream sees to that
			continue
		}
		st.counts.frames.Add(1)
	}
}

// pumpAudio does the same with Opus packets.
func (st *Stream) pumpAudio(ctx context.Context) {
	select {
	case <-st.to.audio.Found():
	case <-ctx.Done():
		return
	}
	var sound *av.Audio
	size := 0
	for {
		u, err := st.att.NextAudio(ctx)
		if err != nil {
			return
		}
		if sound == nil {
			c := av.AudioConfig{Millis: st.config.FrameMs, Size: len(u.Data), KeyID: st.launch.KeyID}
			if st.config.Seal&rtsp.SealAudio != 0 {
				c.Key = st.key[:]
			}
			if sound, err = av.NewAudio(c); err != nil {
				st.log.Error("no sound", "err", err)
				return
			}
			size = len(u.Data)
		}
		// What is inside of a packet of several streams cannot be padded.
		if len(u.Data) != size && st.config.Channels > 2 {
			st.counts.unsent.Add(1)
			continue
		}
		packets, err := sound.Packets(u.Data)
		if err == nil {
			err = st.to.audio.Send(ctx, packets)
		}
		if err != nil {
			st.counts.unsent.Add(1)
			continue
		}
		st.counts.sounds.Add(1)
	}
}

// obey does what the client says, until it leaves or ctx ends.
func (st *Stream) obey(ctx context.Context, peer *enet.Peer) {
	for {
		m, err := peer.Receive(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, enet.ErrLeft):
			st.finish(&media.Cause{Code: media.CauseLeft, Detail: "the client left"})
			return
		case err != nil:
			st.finish(media.NewCause(media.CauseLost, "control stream: %v", err))
			return
		}
		packet, err := st.opener.Open(m.Data)
		if err != nil {
			st.counts.forged.Add(1)
			continue
		}
		if err := st.packet(packet); err != nil {
			st.counts.unknown.Add(1)
			st.log.Debug("control packet left out", "err", err)
		}
	}
}

// packet does what one packet says.
func (st *Stream) packet(b []byte) error {
	c, _, err := signaling.DecodeControl(b)
	if err != nil {
		return err
	}
	switch c.Type {
	case signaling.ControlInput:
		in, err := signaling.DecodeInput(c.Payload)
		if err != nil {
			return err
		}
		in.Received = media.Now()
		st.counts.inputs.Add(1)
		st.att.Input(in)
	case signaling.ControlRequestIDR:
		if st.counts.keys.Add(1) > 1 { // all begin with one
			st.lost()
		}
		st.att.RequestKeyFrame()
	case signaling.ControlInvalidate:
		if _, err := control.DecodeInvalid(c.Payload); err != nil {
			return err
		}
		st.lost() // encoders here do without the frames only by beginning anew
		st.att.RequestKeyFrame()
	case signaling.ControlFECStatus:
		status, err := control.DecodeFECStatus(c.Payload)
		if err != nil {
			return err
		}
		st.repaired(av.Loss{Data: status.Data, Parity: status.Parity, GotData: status.ReceivedData, GotParity: status.ReceivedParity})
	case signaling.ControlPing, signaling.ControlStartA, signaling.ControlStartB, signaling.ControlLossStats, control.LongTermAck:
	default:
		return fmt.Errorf("type %#04x: %w", uint16(c.Type), signaling.ErrUnknown)
	}
	return nil
}

// lost and repaired move the share of parity, and with it what is left for pictures.
func (st *Stream) lost() {
	st.counts.lost.Add(1)
	st.protect(func(p *av.Percent, now time.Time) { p.Lost(now) })
}

func (st *Stream) repaired(l av.Loss) {
	st.protect(func(p *av.Percent, now time.Time) { p.Repaired(l, now) })
}

func (st *Stream) protect(change func(*av.Percent, time.Time)) {
	now := time.Now()
	st.mu.Lock()
	change(&st.percent, now)
	percent := st.percent.Now(now)
	st.mu.Unlock()
	if int(st.parity.Swap(int32(percent))) != percent {
		st.att.Estimate(st.config.VideoKbps(percent))
	}
}
