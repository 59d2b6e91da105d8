package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/wire"
)

// The bounds of a worker's life.
const (
	StartGrace = 5 * time.Second        // from spec to ready
	Silence    = 600 * time.Millisecond // between two signs of progress once ready, unless it is seen to be stopped
	StopGrace  = 1500 * time.Millisecond
	ReapGrace  = 3 * time.Second // from SIGKILL until the process is gone

	tick       = 50 * time.Millisecond
	writeBound = time.Second     // for one order to be taken by the socket
	helpBound  = 2 * time.Second // for our own goroutines to end once the socket is closed
)

var (
	// ErrSilent is why Run killed a worker that made no progress.
	ErrSilent error = &fault{"silent", "media worker is silent"}
	// ErrKilled tells that a worker did not stop when told to and took SIGKILL. It is gone.
	ErrKilled = errors.New("media worker had to be killed")
	// ErrUnreaped tells that a worker still existed ReapGrace after SIGKILL, as
	// one does that is stuck inside a driver. What it held must not be used again.
	ErrUnreaped = errors.New("media worker cannot be killed")

	errGarbage = &fault{"garbage", "media worker sent what cannot be read"}
	errGaveUp  = &fault{"gave-up", "media worker gave up"}
	// ErrDied is why Run returns when a worker ended without having been told to.
	ErrDied error = &fault{"died", "media worker died"}
)

// fault is why a worker's life ended, with a stable word for it.
type fault struct{ reason, text string }

func (f *fault) Error() string { return f.text }

// Reason is the word: "died", "silent", "garbage" or "gave-up".
func (f *fault) Reason() string { return f.reason }

// LastWords is an error of Run with what the worker printed before it.
type LastWords struct {
	err   error
	words string
}

func (l *LastWords) Error() string { return l.err.Error() + "; its last words: " + l.words }
func (l *LastWords) Unwrap() error { return l.err }

// Output is what the worker printed last, at most 4 KiB.
func (l *LastWords) Output() string { return l.words }

// Process is one life of a media worker. Its fields are set before Run, which
// is called once.
type Process struct {
	Exe  string   // path of the program
	Args []string // its arguments, as ["media-worker"]
	// Spec says what to do. It is called once, may block until the display is
	// ready, and must return soon after its context ends.
	Spec func(ctx context.Context) (media.Spec, error)
	Log  *slog.Logger // nil: nothing is logged
	// Stacks takes what a silent worker's threads and goroutines were doing when it
	// was killed, at most 64 KiB of text. nil: nobody wants to know.
	Stacks func(text string)
}

// Run starts the worker and blocks until ctx ends or the worker is over. The
// worker is started at once and initialises itself while Spec blocks.
//
// orders are forwarded without ever waiting for the worker: newer bitrates and
// frame rates replace older ones that were not taken yet, key-frame orders
// fold into one. An OrderStop ends Run as the end of ctx does. sink is called
// from one goroutine at a time and not after Run returned; its units have
// Stages.Received set.
//
// Run returns within StopGrace and ReapGrace after ctx ends. The error is nil
// when the worker then went as it was told. Otherwise it wraps ErrDied, ErrSilent,
// wire.ErrMalformed, or the *media.Cause that the worker gave; and in addition
// ErrKilled when a worker that was told to stop did not, and ErrUnreaped when
// the process is still there. A *LastWords is in its chain when the worker
// printed something.
func (p *Process) Run(ctx context.Context, orders <-chan media.Order, sink media.Sink) error {
	log := p.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c, err := start(p.Exe, p.Args, log)
	if err != nil {
		return fmt.Errorf("start media worker: %w", err)
	}
	r := &run{child: c, sink: sink, mail: newMailbox(), read: make(chan error, 1), wrote: make(chan error, 1)}
	r.phase.Store(phaseWaiting)

	// The writer outlives ctx by the stop order.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	go func() { r.read <- r.readAll() }()
	go func() { r.wrote <- r.writeAll(ctx, life, p.Spec) }()

	verdict := r.watch(ctx, orders)
	if errors.Is(verdict.err, ErrSilent) && p.Stacks != nil {
		r.askStacks()
	}
	end := r.end(verdict)
	if text := c.words.stacks(); text != "" && p.Stacks != nil {
		p.Stacks(text)
	}

	cancel()
	_ = c.conn.Close() // both goroutines end by it; nothing is left to be said
	r.await(verdict)
	if err := errors.Join(verdict.err, end); err != nil {
		if words := c.words.last(); words != "" {
			return &LastWords{err, words}
		}
		return err
	}
	return nil
}

// phase of a worker's life, which decides how much silence is too much.
const (
	phaseWaiting  int32 = iota // for the spec: nothing is expected
	phaseStarting              // spec sent
	phaseRunning               // ready
)

// run is what the goroutines of one Run share.
type run struct {
	child *child
	sink  media.Sink
	mail  *mailbox

	phase    atomic.Int32
	progress atomic.Uint64 // counts signs of life
	failed   atomic.Pointer[media.Cause]

	read  chan error // result of readAll
	wrote chan error // result of writeAll, which may come long before the end
}

// verdict is why the watch ended.
type verdict struct {
	err   error // nil: told to stop
	eof   bool  // readAll is over
	spoke bool  // writeAll is over
}

// watch serves orders and looks for signs of life.
func (r *run) watch(ctx context.Context, orders <-chan media.Order) (v verdict) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	// Silence is counted in ticks: when this process was stopped or starved, one
	// late tick is not taken for many.
	var seen uint64
	var phase int32
	var mute error // why nothing can be written any more
	quiet, muted, failing, halted := 0, 0, 0, 0
	for {
		select {
		case <-ctx.Done():
			return v
		case o, ok := <-orders:
			switch {
			case !ok:
				orders = nil
			case o.Kind == media.OrderStop:
				return v
			default:
				r.mail.put(o)
			}
		case err := <-r.read:
			v.eof = true
			v.err = r.died(err)
			return v
		case mute = <-r.wrote:
			v.spoke = true
		case <-ticker.C:
			// A child that has just died cannot be written to either; its end says more.
			if mute != nil {
				if muted++; muted > 2 {
					v.err = mute
					return v
				}
			}
			quiet++
			if now, p := r.progress.Load(), r.phase.Load(); p != phase || p == phaseRunning && now != seen {
				seen, phase, quiet = now, p, 0
			}
			// A busy machine makes a worker late; one that is stopped stays silent.
			if phase == phaseRunning && quiet > 1 && r.child.stopped() {
				halted++
			} else {
				halted = 0
			}
			switch cause := r.failed.Load(); {
			case cause != nil:
				// It said that it gives up and exits.
				if failing++; failing > int(Silence/tick) {
					v.err = r.died(nil)
					return v
				}
			case phase == phaseStarting && quiet > int(StartGrace/tick):
				v.err = fmt.Errorf("%w: not ready %v after it was told what to do", ErrSilent, StartGrace)
				return v
			case phase == phaseRunning && quiet > int(Silence/tick):
				v.err = fmt.Errorf("%w: no progress for %v", ErrSilent, Silence)
				return v
			case halted > 1:
				v.err = fmt.Errorf("%w: it is stopped", ErrSilent)
				return v
			}
		}
	}
}

// died turns the end of reading into an error.
func (r *run) died(err error) error {
	if cause := r.failed.Load(); cause != nil {
		return fmt.Errorf("%w: %w", errGaveUp, cause)
	}
	if errors.Is(err, io.EOF) {
		return ErrDied
	}
	if errors.Is(err, wire.ErrMalformed) {
		return fmt.Errorf("%w: %w", errGarbage, err)
	}
	return fmt.Errorf("%w: %w", ErrDied, err)
}

// end makes the child end and reaps it. Who was found silent or broken gets no
// grace.
func (r *run) end(v verdict) error {
	var told error
	if v.err == nil && !v.eof {
		r.mail.stop()
		grace := time.NewTimer(StopGrace)
		defer grace.Stop()
		select {
		case err := <-r.read:
			r.read <- err // for await
		case <-grace.C:
			told = ErrKilled
		}
	}
	r.child.kill()
	status, err := r.child.reap()
	switch {
	case err != nil:
		return errors.Join(told, err)
	case v.eof && status != "":
		return errors.New(status)
	}
	return told
}

// await waits for the goroutines, whose socket is closed and whose context has
// ended. Only a Spec function or a sink that breaks its contract makes it run
// into the bound.
func (r *run) await(v verdict) {
	bound := time.NewTimer(helpBound)
	defer bound.Stop()
	for _, c := range []struct {
		done bool
		ch   chan error
	}{{v.eof, r.read}, {v.spoke, r.wrote}} {
		if c.done {
			continue
		}
		select {
		case <-c.ch:
		case <-bound.C:
			return
		}
	}
}

// readAll passes on what the child sends, until the socket ends.
func (r *run) readAll() error {
	in := wire.NewReader(r.child.conn, wire.TypeUnit, wire.TypeReport)
	var rate meter
	for {
		m, err := in.Next()
		if err != nil {
			return err
		}
		switch m := m.(type) {
		case media.Unit:
			m.Stages.Received = media.Now()
			if m.Kind == media.Video {
				r.progress.Add(1)
			}
			if !rate.take(m.Stages.Received) {
				return fmt.Errorf("%w: more than %d units a second", wire.ErrMalformed, unitRate)
			}
			r.sink.Unit(m)
		case media.Report:
			switch m.Kind {
			case media.ReportReady:
				r.phase.Store(phaseRunning)
			case media.ReportHeartbeat:
				r.progress.Add(1)
			case media.ReportFailed:
				if m.Cause == nil {
					return fmt.Errorf("%w: failure without a cause", wire.ErrMalformed)
				}
				r.failed.Store(m.Cause)
			}
			r.sink.Report(m)
		}
	}
}

// writeAll sends the spec as soon as there is one, then orders until life ends.
// When ctx ends before there is a spec, the stop order is all that is sent.
func (r *run) writeAll(ctx, life context.Context, spec func(context.Context) (media.Spec, error)) error {
	out := wire.NewWriter(r.child.conn, writeBound)
	s, err := spec(ctx)
	switch {
	case err == nil:
		if err := out.Spec(s); err != nil {
			return fmt.Errorf("tell media worker what to do: %w", err)
		}
		r.phase.CompareAndSwap(phaseWaiting, phaseStarting)
	case ctx.Err() == nil:
		return fmt.Errorf("wait for what to do: %w", err)
	}
	for {
		select {
		case <-life.Done():
			return nil
		case <-r.mail.wake:
		}
		for _, o := range r.mail.take() {
			if err := out.Order(o); err != nil {
				return fmt.Errorf("give order to media worker: %w", err)
			}
		}
	}
}

// child is a started process.
type child struct {
	cmd   *exec.Cmd
	conn  io.ReadWriteCloser
	words *words
}

// stopped tells whether the child was stopped by a signal. A debugger's stop is
// another state.
func (c *child) stopped() bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return false // gone, which its socket tells
	}
	// The name is in parentheses and may hold any character; the state follows.
	end := bytes.LastIndex(stat, []byte(") "))
	return end >= 0 && bytes.HasPrefix(stat[end+2:], []byte("T"))
}

// kill ends the child's whole process group. It must not be called after reap
// has succeeded: the number may then belong to another.
func (c *child) kill() { _ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) } // ESRCH: gone already

// reap waits for the killed child. status says how it ended if that was not by
// our SIGKILL or as it should.
func (c *child) reap() (status string, err error) {
	gone := make(chan error, 1)
	go func() { gone <- c.cmd.Wait() }()
	bound := time.NewTimer(ReapGrace)
	defer bound.Stop()
	select {
	case err := <-gone:
		var exit *exec.ExitError
		if errors.As(err, &exit) && !exit.Success() {
			if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() && ws.Signal() == syscall.SIGKILL {
				return "", nil
			}
			return exit.String(), nil
		}
		return "", nil
	case <-bound.C:
		pid := c.cmd.Process.Pid
		unreaped.add(pid)
		go func() { // for as long as the process is there
			<-gone
			unreaped.remove(pid)
		}()
		return "", fmt.Errorf("%w: process %d", ErrUnreaped, pid)
	}
}
