package route

import (
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

func TestShape(t *testing.T) {
	now := time.Unix(1000, 0)
	t.Run("rate and queue", func(t *testing.T) {
		w := newWay(1)
		w.Set(Shape{Rate: 8_000_000, Queue: 100 * time.Millisecond, Delay: 10 * time.Millisecond})
		// 1000 bytes take 1 ms: of 200 at once 101 fit, the first of which does not wait.
		passed := 0
		for i := range 200 {
			at, ok := w.pass(now, 1000)
			if ok {
				passed++
				if want := now.Add(time.Duration(i+1)*time.Millisecond + 10*time.Millisecond); !at.Equal(want) {
					t.Fatalf("packet %d leaves after %v, want %v", i, at.Sub(now), want.Sub(now))
				}
			}
		}
		if c := w.Counts(); passed != 101 || c.Overflown != 99 || c.Packets != 200 || w.Queued() != 100*time.Millisecond {
			t.Errorf("%d passed, %+v", passed, c)
		}
	})
	for _, run := range []float64{1, 4} {
		t.Run(fmt.Sprintf("loss in runs of %.0f", run), func(t *testing.T) {
			w := newWay(1)
			w.Set(Shape{Loss: 0.05, Run: run})
			lost, runs, before := 0, 0, true
			const n = 200_000
			for range n {
				_, ok := w.pass(now, 1000)
				if !ok {
					lost++
					if before {
						runs++
					}
				}
				before = ok
			}
			share, mean := float64(lost)/n, float64(lost)/float64(runs)
			if math.Abs(share-0.05) > 0.005 || math.Abs(mean-max(run, 1/0.95)) > 0.2*run {
				t.Errorf("lost %.3f in runs of %.2f", share, mean)
			}
		})
	}
	t.Run("jitter keeps the order", func(t *testing.T) {
		w := newWay(1)
		w.Set(Shape{Delay: 20 * time.Millisecond, Jitter: 30 * time.Millisecond})
		var last time.Time
		var all []time.Duration
		for i := range 1000 {
			sent := now.Add(time.Duration(i) * 50 * time.Millisecond)
			at, _ := w.pass(sent, 100)
			if at.Before(last) {
				t.Fatal("overtaken")
			}
			last = at
			all = append(all, at.Sub(sent))
		}
		slices.Sort(all)
		if lo, hi := all[0], all[len(all)-1]; lo < 20*time.Millisecond || hi > 50*time.Millisecond || hi-lo < 28*time.Millisecond {
			t.Errorf("delay %v…%v", lo, hi)
		}
	})
	t.Run("holds", func(t *testing.T) {
		w := newWay(1)
		w.began = now
		w.Set(Shape{Every: 523 * time.Millisecond, Hold: 80 * time.Millisecond})
		for i := range 2000 {
			sent := now.Add(time.Duration(i) * time.Millisecond)
			at, _ := w.pass(sent, 100)
			into := sent.Sub(now) % (523 * time.Millisecond)
			if want := max(80*time.Millisecond-into, 0); at.Sub(sent) != want {
				t.Fatalf("%v into a cycle a packet waits %v, want %v", into, at.Sub(sent), want)
			}
		}
	})
}

// TestRoute measures a real path: two sockets in two namespaces.
func TestRoute(t *testing.T) {
	l, err := New(t.Context(), fmt.Sprintf("t%d", os.Getpid()%100000))
	if errors.Is(err, ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b, err := l.B.ListenPacket("udp", l.B.Addr.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	a, err := l.A.DialContext(t.Context(), "udp", b.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	go echo(b)

	// ping sends n packets, gap apart, and returns the round trips of those that came back.
	ping := func(n, size int, gap time.Duration) (trips []time.Duration) {
		sent := make([]time.Time, n)
		got := make(chan []time.Duration)
		go func() {
			var trips []time.Duration
			buf := make([]byte, 2048)
			for {
				k, err := a.Read(buf)
				if err != nil {
					break
				}
				if k == size {
					i := int(buf[0])<<8 | int(buf[1])
					trips = append(trips, time.Since(sent[i]))
				}
			}
			got <- trips
		}()
		msg := make([]byte, size)
		tick := time.NewTicker(gap)
		defer tick.Stop()
		for i := range n {
			<-tick.C
			msg[0], msg[1] = byte(i>>8), byte(i)
			sent[i] = time.Now()
			if _, err := a.Write(msg); err != nil {
				t.Fatal(err)
			}
		}
		a.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		trips = <-got
		a.SetReadDeadline(time.Time{})
		slices.Sort(trips)
		return trips
	}

	l.Set(Shape{Delay: 20 * time.Millisecond})
	trips := ping(100, 200, 2*time.Millisecond)
	if len(trips) != 100 {
		t.Fatalf("%d of 100 packets came back over a path without loss", len(trips))
	}
	t.Logf("2 × 20 ms: median %v", trips[50])
	if m := trips[50]; m < 40*time.Millisecond || m > 50*time.Millisecond {
		t.Errorf("round trip over 2 × 20 ms: median %v", m)
	}

	l.Set(Shape{Loss: 0.2})
	trips = ping(500, 201, time.Millisecond)
	t.Logf("20 %% loss both ways: %d of 500 came back", len(trips))
	if n := len(trips); n < 270 || n > 370 { // 320 ± 5σ
		t.Errorf("%d of 500 came back, want about 320", n)
	}

	// 2 Mbit/s, twice as much sent: half arrives, and waits for the full queue.
	l.ToA.Set(Shape{})
	l.ToB.Set(Shape{Rate: 2_000_000, Queue: 100 * time.Millisecond})
	trips = ping(500, 972, 2*time.Millisecond)
	t.Logf("4 Mbit/s into 2: %d of 500 came back, the slowest after %v", len(trips), trips[len(trips)-1])
	if n := len(trips); n < 220 || n > 320 {
		t.Errorf("%d of 500 packets got through half the rate", n)
	}
	if slow := trips[len(trips)-1]; slow < 90*time.Millisecond || slow > 160*time.Millisecond {
		t.Errorf("the slowest waited %v in a queue of 100 ms", slow)
	}
}

func echo(c net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		c.WriteTo(buf[:n], from) // a full path loses it, and that is counted
	}
}
