package playground

import (
	"encoding/binary"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clock ticks on a grid that does not drift. The kernel keeps it (timerfd) and
// counts the ticks that nobody took.
type clock struct {
	C    <-chan int // each value is a tick: how many were missed before it. Closed by Close
	file *os.File
	done chan struct{}
}

func newClock(perSecond int) (*clock, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("start clock: %w", err)
	}
	period := unix.NsecToTimespec(int64(time.Second) / int64(perSecond))
	if err := unix.TimerfdSettime(fd, 0, &unix.ItimerSpec{Interval: period, Value: period}, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("start clock: %w", err)
	}
	ticks := make(chan int)
	c := &clock{C: ticks, file: os.NewFile(uintptr(fd), "clock"), done: make(chan struct{})}
	go c.run(ticks)
	return c, nil
}

func (c *clock) run(ticks chan<- int) {
	defer close(ticks)
	buf := make([]byte, 8)
	for {
		if _, err := c.file.Read(buf); err != nil {
			return
		}
		n := binary.NativeEndian.Uint64(buf)
		select {
		case ticks <- int(n) - 1:
		case <-c.done:
			return
		}
	}
}

// Close stops the clock and waits for its goroutine.
func (c *clock) Close() {
	close(c.done)
	c.file.Close()
	for range c.C {
	}
}
