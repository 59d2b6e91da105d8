package gpu

import (
	"errors"
	"sync"
	"testing"
	"time"
)

// machine is a report with the cards' limits.
func machine(sessions *Encodes, limits ...NVENC) Report {
	r := Report{State: OK, Driver: "570.1", Began: time.Now()}
	for i, n := range limits {
		g := GPU{Index: i, UUID: "GPU-" + string(rune('a'+i)), PCI: "00000000:0" + string(rune('1'+i)) + ":00.0", NVENC: n, Sessions: sessions}
		r.GPUs = append(r.GPUs, g)
	}
	return r
}

func acquire(t *testing.T, s *Slots, gpu string) *Lease {
	t.Helper()
	l, err := s.Acquire(gpu)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestSlotsAreCountedAndRefused(t *testing.T) {
	s := &Slots{}
	s.Learn(machine(nil, NVENC{Present: Yes, Limit: 2}))
	a := acquire(t, s, "0")
	b := acquire(t, s, "GPU-a") // the same GPU by its other name
	_, err := s.Acquire("00000000:01:00.0")
	var full *FullError
	if !errors.Is(err, ErrFull) || !errors.As(err, &full) || full.Limit != 2 || full.Quarantined != 0 {
		t.Fatalf("third slot of two: %v", err)
	}
	if err.Error() != "all 2 encoder slots of GPU 00000000:01:00.0 are taken" {
		t.Errorf("text %q", err)
	}
	a.Release()
	a.Release() // once is enough, twice does no harm
	c := acquire(t, s, "0")
	if _, err := s.Acquire("0"); !errors.Is(err, ErrFull) {
		t.Errorf("a second Release gave a slot twice: %v", err)
	}
	b.Release()
	c.Release()
	if p := s.Pools(); len(p) != 1 || p[0].Held != 0 {
		t.Errorf("pools %+v", p)
	}
}

func TestGeForceCardsShareTheirLimit(t *testing.T) {
	s := &Slots{}
	geforce := NVENC{Present: Yes, Limit: 2, Shared: true}
	s.Learn(machine(nil, geforce, NVENC{Present: Yes}, geforce))
	acquire(t, s, "0")
	acquire(t, s, "2")
	if _, err := s.Acquire("0"); !errors.Is(err, ErrFull) || err.Error() != "all 2 encoder slots of this machine's GeForce cards together are taken" {
		t.Errorf("third GeForce session: %v", err)
	}
	for range 20 { // the professional card beside them is not limited
		acquire(t, s, "1")
	}
	p := s.Pools()
	if len(p) != 2 || p[0].Held != 20 || p[0].Limit != 0 || p[1].Held != 2 || len(p[1].GPUs) != 2 {
		t.Errorf("pools %+v", p)
	}
}

func TestConfiguredSlotsReplaceTheDriversLimit(t *testing.T) {
	s := &Slots{PerGPU: 1}
	s.Learn(machine(nil, NVENC{Present: Yes, Limit: 8, Shared: true}, NVENC{Present: Yes, Limit: 8, Shared: true}))
	acquire(t, s, "0")
	acquire(t, s, "1")
	if _, err := s.Acquire("1"); !errors.Is(err, ErrFull) {
		t.Errorf("second slot of one: %v", err)
	}
}

func TestSlotsOfAGPUWithoutEncoder(t *testing.T) {
	s := &Slots{}
	s.Learn(machine(nil, NVENC{Present: No, Reason: "no encoder"}))
	if _, err := s.Acquire("0"); !errors.Is(err, ErrNoNVENC) {
		t.Errorf("error %v", err)
	}
	if p := s.Pools(); len(p) != 0 {
		t.Errorf("pools %+v", p)
	}
}

func TestZeroSlotsCountWithoutLimit(t *testing.T) {
	s := &Slots{}
	for range 30 {
		acquire(t, s, "0")
	}
	if p := s.Pools(); len(p) != 1 || p[0].Held != 30 || p[0].Limit != 0 {
		t.Errorf("pools %+v", p)
	}
	// What was taken under the index counts when the GPU is known.
	s.Learn(machine(nil, NVENC{Present: Yes, Limit: 30}))
	if _, err := s.Acquire("GPU-a"); !errors.Is(err, ErrFull) {
		t.Errorf("31st slot of 30: %v", err)
	}
}

func TestQuarantineKeepsTheSlotUntilTheSessionIsGone(t *testing.T) {
	s := &Slots{}
	card := NVENC{Present: Yes, Limit: 1}
	before := machine(&Encodes{}, card)
	s.Learn(before)
	l := acquire(t, s, "0")
	l.Quarantine("worker 17 survived SIGKILL")
	l.Quarantine("again")
	if _, err := s.Acquire("0"); !errors.Is(err, ErrFull) || err.Error() != "all 1 encoder slots of GPU 0 are taken, 1 of them by workers that could not be ended" {
		t.Errorf("error %v", err)
	}
	p := s.Pools()
	if len(p) != 1 || p[0].Held != 0 || len(p[0].Quarantined) != 1 || p[0].Quarantined[0].Reason != "worker 17 survived SIGKILL" {
		t.Fatalf("pools %+v", p)
	}
	for name, r := range map[string]Report{
		"begun before the quarantine":  before,
		"a session is open":            machine(&Encodes{Count: 1}, card),
		"the driver tells no sessions": machine(nil, card),
		"the driver timed out":         {State: TimedOut, Began: time.Now()},
	} {
		s.Learn(r)
		if _, err := s.Acquire("0"); !errors.Is(err, ErrFull) {
			t.Errorf("%s: %v, want the slot still quarantined", name, err)
		}
	}
	s.Learn(machine(&Encodes{}, card)) // no encoder session is open on the GPU
	next := acquire(t, s, "0")
	l.Release() // the old lease is over: this gives nothing back
	if _, err := s.Acquire("0"); !errors.Is(err, ErrFull) {
		t.Errorf("a lease that was over gave a slot back: %v", err)
	}
	next.Release()
}

func TestReleaseEndsAQuarantine(t *testing.T) {
	s := &Slots{PerGPU: 1}
	l := acquire(t, s, "0")
	l.Quarantine("worker 17 survived SIGKILL")
	l.Release() // it went after all
	l.Quarantine("too late")
	acquire(t, s, "0").Release()
	if p := s.Pools(); len(p) != 0 {
		t.Errorf("pools %+v", p)
	}
}

func TestSlotsUnderConcurrency(t *testing.T) {
	s := &Slots{PerGPU: 4}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 200 {
				l, err := s.Acquire("0")
				if errors.Is(err, ErrFull) {
					continue
				}
				if n := s.Pools()[0].Held; n > 4 {
					t.Errorf("%d slots held of 4", n)
				}
				s.Learn(machine(&Encodes{}, NVENC{Present: Yes}))
				l.Release()
			}
		})
	}
	wg.Wait()
	if n := s.Pools()[0].Held; n != 0 {
		t.Errorf("%d slots are held in the end", n)
	}
}
