package browser

import (
	"context"
	"time"

	"github.com/pion/rtcp"

	"fenrir/media"
)

// pumpVideo sends the session's frames until ctx ends or there are no more.
func (p *Peer) pumpVideo(ctx context.Context) {
	payloader, err := newPayloader(p.att.Codec())
	if err != nil {
		p.leave(err)
		return
	}
	for {
		u, err := p.att.NextVideo(ctx)
		if err != nil {
			return // the loop knows why
		}
		at := u.Stages.Captured
		if at == 0 {
			at = u.Stages.Received
		}
		p.clocks.Lock()
		ts := p.videoClock.next(at)
		p.clocks.Unlock()
		if err := p.video.write(payloader.Payload(payloadMTU, u.Data), ts, true, at); err != nil {
			p.meter.writeFailed()
			continue // no path just now; the loop sees to that
		}
		p.counts.frames.Add(1)
		p.meter.sent(&u, media.Now())
	}
}

// pumpAudio does the same with Opus packets.
func (p *Peer) pumpAudio(ctx context.Context) {
	payload := make([][]byte, 1)
	for {
		u, err := p.att.NextAudio(ctx)
		if err != nil {
			return
		}
		n := opusSamples(u.Data)
		if n == 0 || len(u.Data) > payloadMTU {
			continue // not an Opus packet that fits; nothing in the pipeline makes one
		}
		p.clocks.Lock()
		ts := p.audioClock.next(u.Stages.Captured, u.Frame, n)
		p.clocks.Unlock()
		payload[0] = u.Data
		if err := p.audio.write(payload, ts, false, u.Stages.Captured); err != nil {
			p.meter.writeFailed()
		}
	}
}

// everySecond sends the sender reports, which tie both RTP clocks to one wall
// clock by capture time, and the timing event.
func (p *Peer) everySecond() {
	if !p.streaming {
		return
	}
	now := media.Now()
	var reports []rtcp.Packet
	p.clocks.Lock()
	video, audio := p.videoClock.at(now), p.audioClock.at(now)
	p.clocks.Unlock()
	for t, ts := range map[*track]uint32{p.video: video, p.audio: audio} {
		if b := t.bound.Load(); b != nil && t.packets.Load() > 0 {
			reports = append(reports, &rtcp.SenderReport{
				SSRC: b.ssrc, NTPTime: ntp(now), RTPTime: ts,
				PacketCount: t.packets.Load(), OctetCount: t.octets.Load(),
			})
		}
	}
	if len(reports) > 0 {
		if err := p.pc.WriteRTCP(reports); err != nil {
			p.log.Debug("send reports", "err", err)
		}
	}
	p.news.setTiming(p.meter.second(video, now))
}

// onReports takes what the client says about loss and delay.
func (p *Peer) onReports(reports []rtcp.ReceptionReport) {
	video := p.video.bound.Load()
	for _, r := range reports {
		if video == nil || r.SSRC != video.ssrc {
			continue
		}
		p.meter.loss.Store(int64(r.FractionLost))
		if r.LastSenderReport == 0 {
			continue
		}
		now := uint32(ntp(media.Now()) >> 16)
		if rtt := now - r.LastSenderReport - r.Delay; rtt < 1<<31 {
			p.meter.rtt.Store(int64(rtt) * int64(time.Second) >> 16)
		}
	}
}
