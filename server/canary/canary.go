// Package canary knows whether a frame can be encoded on this machine now. It
// finds out in the background, so that whoever asks gets the last answer at once:
// a session that has just encoded one is proof, otherwise one is encoded on trial.
// It imports the standard library only.
package canary

import (
	"context"
	"errors"
	"sync"
	"time"
)

// How it works; a Canary's fields may say otherwise, for tests.
const (
	Every  = 30 * time.Second // between two looks
	Bound  = 5 * time.Second  // of one trial
	Recent = 5 * time.Second  // how young a session's frame has to be to be proof
)

// Sources of an answer.
const (
	ByStart   = "start"   // the probe at the server's start
	BySession = "session" // a running session
	ByTrial   = "trial"   // a frame that was encoded to find out
)

// Answer is what was found last.
type Answer struct {
	OK     bool
	Detail string // why not; or nothing
	By     string
	At     time.Time
	Took   time.Duration // of a trial
}

// Canary finds out. Set its fields, then call Run.
type Canary struct {
	// Try encodes a real frame and returns soon after its context ends. A Try that
	// does not return is not waited for, and counts as failed until it has.
	Try func(ctx context.Context) error
	// Proven is when a session last encoded a frame, zero if none did.
	Proven func() time.Time
	// Changed is told when the answer turns. May be nil.
	Changed func(Answer)

	Every, Bound, Recent time.Duration // zero: the constants

	mu     sync.Mutex // guards what follows
	last   Answer
	trials uint64
	failed uint64
}

// Begin sets the first answer, so that nobody has to wait for the first look.
func (c *Canary) Begin(err error, took time.Duration) {
	c.set(err, Answer{By: ByStart, Took: took})
}

// Last is the last answer. It does not block.
func (c *Canary) Last() Answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

// Trials is how many frames were encoded on trial, and how many of these failed.
func (c *Canary) Trials() (all, failed uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.trials, c.failed
}

// ErrHung is the answer while a trial has not come back.
var ErrHung = errors.New("the trial of an encoder hangs")

// Run looks until ctx ends. A trial that hangs then is left behind.
func (c *Canary) Run(ctx context.Context) error {
	every, bound, recent := or(c.Every, Every), or(c.Bound, Bound), or(c.Recent, Recent)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var hung chan error // of a trial that did not come back
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if hung != nil {
			select {
			case <-hung:
				hung = nil
			default:
				c.set(ErrHung, Answer{By: ByTrial})
				continue
			}
		}
		if at := c.Proven(); !at.IsZero() && time.Since(at) <= recent {
			c.set(nil, Answer{By: BySession})
			continue
		}
		began := time.Now()
		trial, cancel := context.WithTimeout(ctx, bound)
		done := make(chan error, 1)
		go func() { done <- c.Try(trial) }() // bounded by trial, if it keeps its promise
		late := time.NewTimer(bound + bound/5)
		var err error
		select {
		case err = <-done:
		case <-late.C:
			err, hung = ErrHung, done
		}
		late.Stop()
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		c.mu.Lock()
		c.trials++
		if err != nil {
			c.failed++
		}
		c.mu.Unlock()
		c.set(err, Answer{By: ByTrial, Took: time.Since(began)})
	}
}

func (c *Canary) set(err error, a Answer) {
	a.OK, a.At = err == nil, time.Now()
	if err != nil {
		a.Detail = err.Error()
	}
	c.mu.Lock()
	turned := c.last.OK != a.OK && !c.last.At.IsZero()
	c.last = a
	c.mu.Unlock()
	if turned && c.Changed != nil {
		c.Changed(a)
	}
}

func or(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
