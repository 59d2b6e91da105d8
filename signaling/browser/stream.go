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
	path := p.path.Tick()
	p.tellRate(false)
	t := p.meter.second(video, now)
	t.Estimate = path.Bitrate / 1000
	t.Packets, t.Resent = path.Packets-p.sentBefore, path.Resent-p.resentBefore
	p.sentBefore, p.resentBefore = path.Packets, path.Resent
	p.news.setTiming(t)
}

// What a stream needs besides its video.
const (
	audioShare  = 160 // kbit/s of the path that sound takes, headers included
	headerShare = 25  // a 25th of the video goes into packet headers
)

// How the session hears of the path.
const (
	rateUpGap   = time.Second            // between raises
	rateDownGap = 100 * time.Millisecond // between cuts
	rateStep    = 50                     // changes below a 50th are not told
)

// tellRate tells the session what video bitrate the path carries, within the
// client's own cap: raises once a second, cuts at once. force tells it in any
// case.
func (p *Peer) tellRate(force bool) {
	path := p.path.Report()
	kbps := path.Bitrate / 1000
	if !path.Known {
		if !force {
			return
		}
		kbps = p.server.Bitrate.Start
	}
	kbps = max(kbps-audioShare, 0)
	kbps = max(kbps-kbps/headerShare, p.server.Bitrate.Min)
	if most := int(p.maxKbps.Load()); most > 0 {
		kbps = min(kbps, most)
	}
	now, told := time.Now(), &p.told
	if !force {
		diff := kbps - told.kbps
		switch {
		case told.kbps > 0 && max(diff, -diff)*rateStep < told.kbps,
			diff > 0 && now.Sub(told.up) < rateUpGap,
			diff < 0 && now.Sub(told.change) < rateDownGap:
			return
		case diff > 0:
			told.up = now
		}
	}
	told.kbps, told.change = kbps, now
	p.att.Estimate(kbps)
}

// onReports takes what the client says about the round-trip time.
func (p *Peer) onReports(reports []rtcp.ReceptionReport) {
	video := p.video.bound.Load()
	for _, r := range reports {
		if video == nil || r.SSRC != video.ssrc {
			continue
		}
		if r.LastSenderReport == 0 {
			continue
		}
		now := uint32(ntp(media.Now()) >> 16)
		if rtt := now - r.LastSenderReport - r.Delay; rtt < 1<<31 {
			p.meter.rtt.Store(int64(rtt) * int64(time.Second) >> 16)
		}
	}
}
