package route

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"time"
)

// Shape is what one direction of a path does to packets. The zero Shape
// passes them on at once.
type Shape struct {
	Delay  time.Duration // one way
	Jitter time.Duration // up to so much more, uniform; order is kept
	Loss   float64       // 0…1
	Run    float64       // mean length of a run of losses; up to 1 is random loss
	Rate   int           // bit/s, 0 for no limit
	Queue  time.Duration // that waits for the rate at most; what comes then is lost. 0 stands for 200 ms
	Every  time.Duration // the path stands still each so often …
	Hold   time.Duration // … for so long, and then delivers all at once, as Wi-Fi does
}

const defaultQueue = 200 * time.Millisecond

// Counts are totals of one direction.
type Counts struct {
	Packets   int // that came
	Bytes     int
	Delivered int // bytes that left the queue
	Lost      int // packets, by chance
	Overflown int // packets that found the queue full
}

// Way is one direction of a Route.
type Way struct {
	mu     sync.Mutex // guards what follows
	shape  Shape
	rnd    *rand.Rand
	losing bool
	free   time.Time // when the queue is empty
	last   time.Time // when the last packet leaves
	began  time.Time
	counts Counts
	worst  time.Duration // the longest wait for the rate since Queued was called
}

func newWay(seed uint64) *Way {
	return &Way{rnd: rand.New(rand.NewPCG(seed, seed)), began: time.Now()}
}

// Set changes the shape. Packets under way keep theirs.
func (w *Way) Set(s Shape) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Queue == 0 {
		s.Queue = defaultQueue
	}
	if s.Rate > 0 && w.shape.Rate > 0 {
		// The bytes that wait stay; they take longer or less long now.
		if now := time.Now(); w.free.After(now) {
			w.free = now.Add(time.Duration(float64(w.free.Sub(now)) * float64(w.shape.Rate) / float64(s.Rate)))
		}
	}
	w.shape = s
}

// Counts are the totals so far.
func (w *Way) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Queued is the longest time that a packet waited for the rate since the last call.
func (w *Way) Queued() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.worst
	w.worst = 0
	return d
}

// pass decides what becomes of a packet of so many bytes that comes now.
func (w *Way) pass(now time.Time, size int) (leaves time.Time, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.shape
	w.counts.Packets++
	w.counts.Bytes += size
	leaves = now
	if s.Rate > 0 {
		if w.free.Before(now) {
			w.free = now
		}
		wait := w.free.Sub(now)
		if wait > s.Queue {
			w.counts.Overflown++
			return leaves, false
		}
		w.worst = max(w.worst, wait)
		w.free = w.free.Add(time.Duration(float64(size) * 8 / float64(s.Rate) * float64(time.Second)))
		leaves = w.free
	}
	w.counts.Delivered += size
	if w.lose(s) {
		w.counts.Lost++
		return leaves, false
	}
	leaves = leaves.Add(s.Delay)
	if s.Jitter > 0 {
		leaves = leaves.Add(time.Duration(w.rnd.Int64N(int64(s.Jitter))))
	}
	if s.Every > 0 {
		if into := leaves.Sub(w.began) % s.Every; into < s.Hold {
			leaves = leaves.Add(s.Hold - into)
		}
	}
	if leaves.Before(w.last) {
		leaves = w.last
	}
	w.last = leaves
	return leaves, true
}

// lose throws the dice: independent losses, or Gilbert's two states.
func (w *Way) lose(s *Shape) bool {
	if s.Run <= 1 || s.Loss <= 0 || s.Loss >= 1 {
		return w.rnd.Float64() < s.Loss
	}
	leave := 1 / s.Run
	enter := leave * s.Loss / (1 - s.Loss)
	if w.losing {
		w.losing = w.rnd.Float64() >= leave
	} else {
		w.losing = w.rnd.Float64() < enter
	}
	return w.losing
}

type waiting struct {
	at   time.Time
	data []byte
}

// run relays from one device to the other until they are closed.
func (w *Way) run(ctx context.Context, from io.Reader, to *os.File) {
	line := make(chan waiting, 1<<14) // 10 s of 20 Mbit/s
	pool := sync.Pool{New: func() any { b := make([]byte, 2048); return &b }}
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		timer := time.NewTimer(0)
		defer timer.Stop()
		for p := range line {
			if wait := time.Until(p.at); wait > 0 {
				timer.Reset(wait)
				select {
				case <-timer.C:
				case <-ctx.Done():
				}
			}
			to.Write(p.data) // a device that is down or full loses packets, as devices do
			b := p.data[:cap(p.data)]
			pool.Put(&b)
		}
	}()
	defer done.Wait()
	defer close(line)
	for {
		b := *pool.Get().(*[]byte)
		n, err := from.Read(b)
		if err != nil {
			return
		}
		at, ok := w.pass(time.Now(), n)
		if !ok {
			pool.Put(&b)
			continue
		}
		select {
		case line <- waiting{at, b[:n]}:
		default: // ten seconds under way: lost
		}
	}
}
