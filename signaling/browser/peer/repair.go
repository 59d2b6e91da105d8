package peer

import (
	"time"

	"fenrir/signaling/browser/congestion"
	"fenrir/signaling/browser/resend"
)

// How losses are repaired. On a clean path frames are shown at once. On a lossy
// one a frame may be held back for as long as a lost packet takes to come again,
// because a player sees 60 even frames a little later better than 35 uneven
// ones; parity packets repair most of it without a round trip, which far away is
// the only way in time.
const (
	tuneGap    = 100 * time.Millisecond // between two looks at the path
	lossBegins = 0.004                  // share of packets, smoothed
	lossEnds   = 0.001
	lossTwice  = 0.02 // from here on packets are sent again in two copies
	lossUp     = 0.2  // smoothing for each look
	lossDown   = 0.03

	nearby     = 60 * time.Millisecond // round trip that can be waited for
	holdMargin = 25 * time.Millisecond // until the next frame shows that one is missing, and jitter
	holdParity = 20 * time.Millisecond // for the parity packets of a frame to come
	minParity  = 0.06                  // parity packets for each packet
	maxParity  = 0.5

	costPackets = 100 // until the cost of repair is looked at again

	minPace = 5_000_000 // bit/s
)

// repair is what a Peer does about losses; of Serve's goroutine.
type repair struct {
	at     time.Time
	lossy  bool
	floods uint64
	cost   float64 // share of what is sent that goes into repair
	seen   congestion.Report
}

// tune follows the path's losses.
func (p *Peer) tune() {
	now, r := time.Now(), &p.repair
	path := p.path.Report()
	if path.Floods != r.floods {
		// Asking for all of it again would take what the path has not got.
		r.floods = path.Floods
		p.att.RequestKeyFrame()
	}
	if !path.Known || now.Sub(r.at) < tuneGap {
		return
	}
	r.at = now
	r.lossy = path.Loss > lossBegins || r.lossy && path.Loss > lossEnds

	rtt := path.RTT
	if reported := time.Duration(p.rtt.Load()); reported > 0 {
		rtt = min(rtt, reported)
	}
	t := resend.Tuning{RTT: rtt, Copies: 1, Budget: max(path.Bitrate/2, 500_000)}
	var hold time.Duration
	var parity float64
	if r.lossy {
		if path.Loss > lossTwice {
			t.Copies = 2
		}
		hold = rtt + holdMargin
		if p.video.Repairs() {
			parity = 2.5 * path.Loss
			if rtt > nearby {
				parity = 4 * path.Loss
			}
			parity = min(max(parity, minParity), maxParity)
			if rtt > nearby {
				hold = holdParity
			}
		}
		hold = min(hold, nearby+holdMargin)
	}
	if sent := float64(path.Packets - r.seen.Packets); sent >= costPackets {
		mended := float64(path.Parity - r.seen.Parity + path.Resent - r.seen.Resent)
		r.cost += (mended/sent - r.cost) / 4
		r.seen = path
	}
	p.resend.Tune(t)
	p.video.SetPace(max(path.Bitrate*5/2, minPace))
	p.video.SetParity(parity, rtt > nearby)
	p.video.SetPlayoutDelay(hold, hold)
}
