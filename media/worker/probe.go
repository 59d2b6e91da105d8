package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"syscall"
	"time"

	"fenrir/media"
)

const (
	// ProbeBound is how long one entry of the encoder table may take.
	ProbeBound = 5 * time.Second
	// ListBound is how long the list of them may take: the first process with GStreamer
	// on a machine, or after an update, looks at all of its plugins.
	ListBound = 20 * time.Second

	probesAtOnce = 2
	maxAnswer    = 1 << 20 // bytes that a probe may print
)

// Probe finds out which entries of the encoder table work on this machine, by
// really encoding with each in a child of its own: exe with args, and after
// them "list" or "try" and an entry's name. It blocks at most ListBound for the
// list and ProbeBound for every two entries whose element exists, or until ctx
// ends; what is not known by then has that for its Reason. The order is that of
// the table. The result is empty when there is no list, which is logged.
func Probe(ctx context.Context, exe string, args []string, log *slog.Logger) []media.Encoder {
	var encoders []media.Encoder
	began := time.Now()
	if err := ask(ctx, ListBound, exe, append(slices.Clone(args), "list"), &encoders); err != nil {
		log.Error("encoders cannot be listed", "cause", err)
		return nil
	}
	var trying sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for i := range encoders {
		if encoders[i].Reason != "" {
			continue // not to be tried
		}
		trying.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			encoders[i] = try(ctx, exe, args, encoders[i])
		})
	}
	trying.Wait()
	for _, e := range encoders {
		log.Debug("encoder probed", "encoder", e.Name, "works", e.Works, "reason", e.Reason, "took", time.Duration(e.TookMs)*time.Millisecond)
	}
	log.Info("encoders probed", "working", working(encoders), "took", time.Since(began).Round(time.Millisecond))
	return encoders
}

func working(encoders []media.Encoder) (names []string) {
	for _, e := range encoders {
		if e.Works {
			names = append(names, e.Name)
		}
	}
	return names
}

// Trial encodes a few frames with one entry of the encoder table, in a child as
// Probe does, within ProbeBound. The error is nil when they came out.
func Trial(ctx context.Context, exe string, args []string, name string) error {
	e := try(ctx, exe, args, media.Encoder{Name: name})
	if !e.Works {
		return fmt.Errorf("%s: %s", name, e.Reason)
	}
	return nil
}

// try asks a child to encode with one entry.
func try(ctx context.Context, exe string, args []string, e media.Encoder) media.Encoder {
	began := time.Now()
	var found media.Encoder
	err := ask(ctx, ProbeBound, exe, append(slices.Clone(args), "try", e.Name), &found)
	switch {
	case err != nil:
		e.Works, e.Reason = false, err.Error()
	case found.Name != e.Name:
		e.Works, e.Reason = false, fmt.Sprintf("the probe answered about %q", found.Name)
	default:
		e.Works, e.Reason, e.Element = found.Works, found.Reason, found.Element
	}
	e.TookMs = int(time.Since(began).Milliseconds())
	return e
}

// ask runs a child until it ends, at most bound, and decodes what it prints.
func ask(ctx context.Context, bound time.Duration, exe string, args []string, into any) error {
	cmd := command(exe, args)
	out := &limited{}
	said := newWords(slog.New(slog.DiscardHandler))
	cmd.Stdout, cmd.Stderr = out, said
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start probe: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start probe: %w", err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	late := time.NewTimer(bound)
	defer late.Stop()
	var err error
	select {
	case err = <-gone:
	case <-ctx.Done():
		err = context.Cause(ctx)
		reapProbe(cmd.Process.Pid, gone)
		return fmt.Errorf("probe: %w", err)
	case <-late.C:
		reaped := reapProbe(cmd.Process.Pid, gone)
		return errors.Join(fmt.Errorf("no answer within %v%s", bound, after(said)), reaped)
	}
	if err != nil {
		return fmt.Errorf("probe: %w%s", err, after(said))
	}
	if out.over {
		return errors.New("probe: endless answer")
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("probe: read answer: %w", err)
	}
	return nil
}

// reapProbe kills a probe's group, whose leader has not been waited for yet as
// far as this goroutine knows, and waits a bounded time for it.
func reapProbe(pid int, gone <-chan error) error {
	select {
	case <-gone:
		return nil
	default:
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // ESRCH: gone in this very moment
	bound := time.NewTimer(ReapGrace)
	defer bound.Stop()
	select {
	case <-gone:
		return nil
	case <-bound.C:
		return ErrUnreaped
	}
}

func after(w *words) string {
	if last := w.last(); last != "" {
		return "; its last words: " + last
	}
	return ""
}

// limited keeps up to maxAnswer bytes.
type limited struct {
	bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxAnswer {
		l.over = true
		return len(p), nil
	}
	return l.Buffer.Write(p)
}
