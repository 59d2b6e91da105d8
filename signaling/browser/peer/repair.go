package peer

import (
	"math"
	"sync/atomic"
	"time"

	"fenrir/media"
	"fenrir/signaling/browser/congestion"
	"fenrir/signaling/browser/resend"
)

// How losses are repaired. Frames are shown at once, also on a lossy path: there so
// many parity packets come with each that all but one in a hundred is whole without a
// round trip, and to hold all frames back for the sake of that one would cost every
// press more than it is worth. Clients without parity get what is lost a round
// trip later, and hold every frame back for as long while a path loses packets, because a
// player sees 60 even frames a little later better than 35 uneven ones.
const (
	tuneGap    = 100 * time.Millisecond // between two looks at the path
	lossBegins = 0.004                  // share of packets, smoothed
	lossEnds   = 0.001
	lossTwice  = 0.02 // from here on packets are sent again in two copies
	lossUp     = 0.2  // smoothing for each look
	lossDown   = 0.03

	nearby      = 60 * time.Millisecond // round trip that can be waited for
	holdMargin  = 25 * time.Millisecond // until the next frame shows that one is missing, and jitter
	parityShare = 8                     // parity packets for each packet that is lost
	minParity   = 0.06                  // for each packet
	maxParity   = 0.6

	fullGap     = 500 * time.Millisecond // without, until the path counts as full anew
	keyOnItsWay = 200 * time.Millisecond // since one was asked for: it need not be asked for again

	strayMean    = 0.03 // smoothing of the losses that bound a frame's size, for each look
	wholeShare   = 200  // kbit/s, over the share lost: seven packets a frame where one in twenty is
	wholeMended  = 300  // the same where there is parity: half as many again
	wholeLeast   = 3000
	wholeAnyLoss = 0.01 // below, any size will do

	costPackets = 100 // until the cost of repair is looked at again

	minPace   = 5_000_000 // bit/s
	minBudget = 500_000
)

// repair is what a Peer does about losses; of Serve's goroutine.
type repair struct {
	at     time.Time
	lossy  bool
	floods uint64
	full   time.Time // when the path was last full
	cost   float64   // share of what is sent that goes into repair
	stray  float64   // share of packets lost, over some seconds
	seen   congestion.Report
}

// judge tells what a report asks for at once, where a key frame was sent last at
// keySent: that nothing from before is sent again, and a new key frame.
func (r *repair) judge(path congestion.Report, now time.Time, keySent media.Stamp) (forget, key bool) {
	if path.Full {
		// What is missing from now on, the queue has lost. Sending all of it again would
		// take what the path has not got, and the place of the key frame that repairs it.
		forget = now.Sub(r.full) > fullGap
		r.full = now
	}
	if path.Floods != r.floods {
		r.floods = path.Floods
		key = path.Drowned >= keySent // else what makes up for it is on its way
	}
	return forget, key
}

// tune follows the path's losses.
func (p *Peer) tune() {
	now, r := time.Now(), &p.repair
	path := p.path.Report()
	forget, key := r.judge(path, now, p.keyFrames.last())
	if forget {
		p.resend.Forget()
	}
	if key {
		p.wantKey()
	}
	if !path.Known || now.Sub(r.at) < tuneGap {
		return
	}
	r.at = now
	r.lossy = path.Stray > lossBegins || r.lossy && path.Stray > lossEnds

	r.stray += (path.Stray - r.stray) * strayMean

	rtt := path.RTT
	if reported := time.Duration(p.rtt.Load()); reported > 0 {
		rtt = min(rtt, reported)
	}
	hold, parity, copies := mend(path.Stray, rtt, r.lossy, p.video.Repairs())
	if sent := float64(path.Packets - r.seen.Packets); sent >= costPackets {
		mended := float64(path.Parity - r.seen.Parity + path.Resent - r.seen.Resent)
		r.cost += (mended/sent - r.cost) / 4
		r.seen = path
	}
	p.resend.Tune(resend.Tuning{RTT: rtt, Copies: copies, Budget: max(path.Bitrate/2, minBudget)})
	p.video.SetPace(max(path.Bitrate*5/2, minPace))
	p.video.SetParity(parity)
	p.video.SetPlayoutDelay(hold, hold)
}

// wantKey asks for a key frame, unless one is on its way. It may be called from any
// goroutine and does not block.
func (p *Peer) wantKey() {
	if p.keyFrames.ask(media.Now()) {
		p.att.RequestKeyFrame()
	}
}

// keyFrames tells when a key frame was last asked for, and when one last went out:
// media.Stamps, 0 for never.
type keyFrames struct{ asked, sent atomic.Int64 }

func (k *keyFrames) last() media.Stamp    { return media.Stamp(k.sent.Load()) }
func (k *keyFrames) send(now media.Stamp) { k.sent.Store(int64(now)) }

// ask tells whether one has to be asked for, because none is on its way; then it is
// taken to be asked for.
func (k *keyFrames) ask(now media.Stamp) bool {
	asked := media.Stamp(k.asked.Load())
	if asked > k.last() && now.Sub(asked) < keyOnItsWay {
		return false
	}
	k.asked.Store(int64(now))
	return true
}

// whole is the most, kbit/s, of which frames arrive whole mostly where a share of the
// packets is lost at random. A player prefers even frames to sharp ones: with the
// packets of a frame grows the chance that parity does not suffice, and that the
// packet which is asked for again is lost again.
func whole(stray float64, repairs bool) int {
	share := float64(wholeShare)
	if repairs {
		share = wholeMended
	}
	if stray < wholeAnyLoss {
		return math.MaxInt32
	}
	return max(int(share/stray), wholeLeast)
}

// mend says what is done about a loss: how long frames are held back, how many
// parity packets there are for each packet, where the client takes them, and
// in how many copies packets are sent again.
func mend(loss float64, rtt time.Duration, lossy, repairs bool) (hold time.Duration, parity float64, copies int) {
	if !lossy {
		return 0, 0, 1
	}
	copies = 1
	if loss > lossTwice {
		copies = 2
	}
	if repairs {
		return 0, min(max(parityShare*loss, minParity), maxParity), copies
	}
	return min(rtt, nearby) + holdMargin, 0, copies
}
