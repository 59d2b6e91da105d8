package peer

import (
	"context"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/rtcp"

	"fenrir/media"
	"fenrir/signaling/browser/congestion"
	"fenrir/signaling/browser/rtpstream"
)

// When the path is looked at with a packet train because frames are too small to
// show anything: so often, with so many packets after a frame.
const (
	probeGap     = 400 * time.Millisecond
	probePackets = 3
)

// pumpVideo sends the session's frames until ctx ends or there are no more.
func (p *Peer) pumpVideo(ctx context.Context) {
	train := interceptor.Attributes{congestion.Train{}: true}
	var probed media.Stamp
	for {
		u, err := p.att.NextVideo(ctx)
		if err != nil {
			return // the loop knows why
		}
		if u.Key {
			p.keyFrames.send(media.Now())
			p.resend.Renew()
		}
		if err := p.video.Send(ctx, &u); err != nil {
			p.counts.unsent.Add(1) // no path just now; the loop sees to that
			continue
		}
		p.counts.frames.Add(1)
		now := media.Now()
		p.meter.Sent(&u, p.video.RTPTime(u.Stages.Captured), now)
		if now.Sub(probed) > probeGap && p.path.Blind() {
			probed = now
			if ssrc, ok := p.video.SSRC(); ok {
				p.resend.Pad(ssrc, probePackets, train)
			}
		}
	}
}

// pumpAudio does the same with Opus packets.
func (p *Peer) pumpAudio(ctx context.Context) {
	for {
		u, err := p.att.NextAudio(ctx)
		if err != nil {
			return
		}
		if err := p.audio.Send(ctx, &u); err != nil {
			p.counts.unsent.Add(1)
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
	for _, t := range []*rtpstream.Track{p.video, p.audio} {
		if r, ok := t.Report(now); ok {
			reports = append(reports, r)
		}
	}
	if len(reports) > 0 {
		if err := p.pc.WriteRTCP(reports); err != nil {
			p.log.Debug("send reports", "err", err)
		}
	}
	path := p.path.Tick()
	p.tellRate(false)
	t := p.meter.Second(p.video.RTPTime(now), now)
	t.Estimate, t.Target = path.Bitrate/1000, p.att.Target()
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
		kbps = p.Bitrate.Start
	}
	kbps = max(int(float64(kbps)*(1-p.repair.cost))-audioShare, 0)
	kbps = max(min(kbps-kbps/headerShare, whole(p.repair.stray, p.video.Repairs())), p.Bitrate.Min)
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

// onExtended answers a client that asks for the round-trip time (RFC 3611, RRTR
// and DLRR): one that only receives knows it no other way, and browsers ask for
// a packet again, when it was lost again, after a round trip or else after 100 ms. So one
// that is far away gets no answer: it asks sooner where it does not know.
func (p *Peer) onExtended(x *rtcp.ExtendedReport) {
	rtt := time.Duration(p.rtt.Load())
	if !p.timed.Load() && (rtt == 0 || rtt > nearby) {
		return
	}
	ssrc, ok := p.video.SSRC()
	for _, r := range x.Reports {
		rr, is := r.(*rtcp.ReceiverReferenceTimeReportBlock)
		if !is || !ok {
			continue
		}
		err := p.pc.WriteRTCP([]rtcp.Packet{&rtcp.ExtendedReport{SenderSSRC: ssrc, Reports: []rtcp.ReportBlock{
			&rtcp.DLRRReportBlock{Reports: []rtcp.DLRRReport{{SSRC: x.SenderSSRC, LastRR: uint32(rr.NTPTimestamp >> 16)}}},
		}}})
		if err != nil || !p.timed.Swap(true) {
			p.log.Debug("client asks for the round trip", "err", err)
		}
		return // one answer for each report
	}
}

// onReports takes what the client says about the round-trip time.
func (p *Peer) onReports(reports []rtcp.ReceptionReport) {
	ssrc, ok := p.video.SSRC()
	for _, r := range reports {
		if !ok || r.SSRC != ssrc {
			continue
		}
		if r.LastSenderReport == 0 {
			continue
		}
		now := uint32(rtpstream.NTP(media.Now()) >> 16)
		if rtt := now - r.LastSenderReport - r.Delay; rtt < 1<<31 {
			p.rtt.Store(int64(rtt) * int64(time.Second) >> 16)
		}
	}
}
