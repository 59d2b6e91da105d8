// Package doctor looks at a machine for what Fenrir needs, and says in plain words
// what is there, what is not, and what to do. Every check is bounded in time and
// they run side by side. It imports golang.org/x/sys and the nouns catalog, cert and
// config; what needs native code is handed in.
package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// Status says how a check went. Greater is worse.
type Status int

// The statuses.
const (
	OK Status = iota
	Warn
	Fail
)

func (s Status) String() string { return [...]string{"OK", "warn", "FAIL"}[s] }

// MarshalText makes JSON say "ok", "warn" and "fail".
func (s Status) MarshalText() ([]byte, error) { return []byte(strings.ToLower(s.String())), nil }

// Result is what a check found.
type Result struct {
	Status Status `json:"status"`
	Found  string `json:"found"`        // one or two sentences, without secrets
	Do     string `json:"do,omitempty"` // what a person can do about it
	Took   int    `json:"took_ms"`      // ms; set by Run
	Name   string `json:"check"`        // set by Run
}

// Good, Warnf and Failf make results; what to do comes first where there is something.
func Good(format string, args ...any) Result {
	return Result{Status: OK, Found: fmt.Sprintf(format, args...)}
}

// Warnf is a result for something that works worse than it could.
func Warnf(do, format string, args ...any) Result {
	return Result{Status: Warn, Do: do, Found: fmt.Sprintf(format, args...)}
}

// Failf is a result for something without which Fenrir does not work.
func Failf(do, format string, args ...any) Result {
	return Result{Status: Fail, Do: do, Found: fmt.Sprintf(format, args...)}
}

// Check looks at one thing. Look returns soon after its context ends.
type Check struct {
	Name string
	Look func(ctx context.Context) Result
}

// Bounds of Run.
const (
	Each   = 12 * time.Second // of one check
	AtOnce = 4                // checks that run side by side
	grace  = time.Second      // for a check to see that its time is over
	Total  = 15 * time.Second // of all
)

// Run runs the checks and returns their results in the same order. It blocks for
// Total at most, however the checks behave.
func Run(ctx context.Context, checks []Check) []Result {
	ctx, cancel := context.WithTimeout(ctx, Total-grace)
	defer cancel()
	results := make([]Result, len(checks))
	slots := make(chan struct{}, AtOnce)
	var all sync.WaitGroup
	for i, c := range checks {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = one(ctx, c)
		})
	}
	all.Wait()
	return results
}

// one runs a check and does not wait longer for it than it may take.
func one(ctx context.Context, c Check) Result {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, Each)
	defer cancel()
	done := make(chan Result, 1)
	go func() { done <- c.Look(ctx) }() // bounded by ctx, if it keeps its promise
	var r Result
	select {
	case r = <-done:
	case <-ctx.Done():
		late := time.NewTimer(grace / 2)
		defer late.Stop()
		select {
		case r = <-done:
		case <-late.C:
			r = Failf("Something that this check uses hangs; the log of the machine may say what.", "No answer within %v.", time.Since(began).Round(time.Second))
		}
	}
	r.Name, r.Took = c.Name, int(time.Since(began).Milliseconds())
	return r
}

// Worst is the worst status of all.
func Worst(results []Result) Status {
	worst := OK
	for _, r := range results {
		worst = max(worst, r.Status)
	}
	return worst
}

// Print writes the results for people.
func Print(w io.Writer, results []Result, colour bool) error {
	paint := func(s Status) string {
		if !colour {
			return s.String()
		}
		return "\x1b[" + [...]string{"32", "33", "31;1"}[s] + "m" + s.String() + "\x1b[0m"
	}
	var b strings.Builder
	width := 0
	for _, r := range results {
		width = max(width, len(r.Name))
	}
	counts := [3]int{}
	for _, r := range results {
		counts[r.Status]++
		fmt.Fprintf(&b, "%s%s  %-*s  %s\n", paint(r.Status), strings.Repeat(" ", 4-len(r.Status.String())), width, r.Name, r.Found)
		if r.Do != "" {
			fmt.Fprintf(&b, "%*s  → %s\n", width+6, "", r.Do)
		}
	}
	fmt.Fprintf(&b, "\n%d fine, %d to look at, %d broken\n", counts[OK], counts[Warn], counts[Fail])
	_, err := io.WriteString(w, b.String())
	return err
}

// JSON writes the results for programs.
func JSON(w io.Writer, results []Result) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"status": Worst(results), "checks": results})
}
