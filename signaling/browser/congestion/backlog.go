package congestion

import (
	"slices"
	"time"

	"fenrir/media"
)

// backlog is the queue on the path over the last frames.
type backlog struct {
	seen [backlogFrames]time.Duration
	n    int
	last media.Stamp
}

const (
	climbFrames = 3
	climbStep   = 12 * time.Millisecond
)

const backlogFrames = 4 // few enough to be quick, and more than come at once after a path stood still

func (b *backlog) add(at media.Stamp, queue time.Duration) {
	if at.Sub(b.last) > trendPause {
		b.n = 0
	}
	b.last = at
	b.seen[b.n%backlogFrames] = queue
	b.n++
}

// climbs tells that each of the last frames waited longer than the one before, up
// to much: the path carries less than is sent. After it stood still frames wait less
// and less, so that this need not be waited for.
func (b *backlog) climbs() bool {
	if b.n < climbFrames {
		return false
	}
	at := func(i int) time.Duration { return b.seen[(b.n-climbFrames+i)%backlogFrames] }
	for i := 1; i < climbFrames; i++ {
		if at(i) < at(i-1)+climbStep {
			return false
		}
	}
	return at(climbFrames-1) > floodQueue
}

// least is what all of the last frames waited, 0 while there are too few.
func (b *backlog) least() time.Duration {
	if b.n < backlogFrames {
		return 0
	}
	return slices.Min(b.seen[:])
}
