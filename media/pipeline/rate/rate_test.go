package rate

import (
	"math"
	"math/rand/v2"
	"testing"
)

const (
	pixels = 1280 * 720
	budget = 8_000_000 / 8 / 60
)

// encoder stands for one that makes frames as x264 does, roughly: what changes takes
// its weight, and what was coarser before is made up for, row by row.
type encoder struct {
	weight float64 // of the moving part
	anew   float64
	rows   [64]float64 // quantizers that parts of the picture were encoded with
	noise  *rand.Rand
}

func newEncoder() *encoder {
	return &encoder{weight: 18.3, anew: 20.8, noise: rand.New(rand.NewPCG(1, 2))}
}

// encode returns the size of a frame of which a share is coded anew.
func (e *encoder) encode(f Frame, moving, anew float64) int {
	q := float64(f.Quantizer)
	size := 25 + moving*math.Exp2(e.weight-q/6) + anew*math.Exp2(e.anew-q/6)
	for i := range e.rows {
		at := float64(i) / float64(len(e.rows))
		if at >= f.Top && at < f.Bottom && e.rows[i] > q {
			finer := math.Exp2(-q/6) - math.Exp2(-e.rows[i]/6)
			size += (1 - anew) * 0.5 * finer * math.Exp2(e.anew) / float64(len(e.rows))
		}
		if moving > 0.5 || anew > 0.5 || at >= f.Top && at < f.Bottom {
			e.rows[i] = q
		}
	}
	return int(size * (0.9 + 0.2*e.noise.Float64()))
}

var motion = Look{Change: 240, Detail: 150, Novelty: 0.06, Area: 1}

// play encodes moving pictures and returns their sizes in budgets.
func play(c *Control, e *encoder, n int) (sizes []float64) {
	for range n {
		size := e.encode(c.Next(false, motion), 1, 0)
		c.Done(size)
		sizes = append(sizes, float64(size)/c.budget)
	}
	return sizes
}

func started() (*Control, *encoder) {
	c, e := New(pixels, budget), newEncoder()
	c.Done(e.encode(c.Next(true, Look{Detail: 150, Change: 150, Novelty: 1, Area: 1}), 0, 1))
	play(c, e, 60)
	return c, e
}

func total(sizes []float64) (sum, most float64) {
	for _, s := range sizes {
		sum += s
		most = max(most, s)
	}
	return sum, most
}

func TestMotionTakesItsBudget(t *testing.T) {
	t.Parallel()
	for _, kbps := range []int{1500, 3000, 8000, 20000} {
		c, e := started()
		c.SetBudget(kbps * 1000 / 8 / 60)
		first := play(c, e, 1)[0]
		if first > 1.5 {
			t.Errorf("%d kbit/s: the first frame of a new budget takes %.1f of it", kbps, first)
		}
		play(c, e, 30)
		sum, most := total(play(c, e, 300))
		t.Logf("%d kbit/s: %.3f of the budget, at most %.2f at a time", kbps, sum/300, most)
		if sum/300 < 0.85 || sum/300 > 1.05 || most > 1.6 {
			t.Errorf("%d kbit/s: %.2f of the budget on average, %.1f at most", kbps, sum/300, most)
		}
	}
}

func TestNewPictureFitsAtOnce(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]Look{
		"cut":                    {Change: 1600, Detail: 150, Novelty: 0.76, Area: 1},
		"half of the picture":    {Change: 800, Detail: 150, Novelty: 0.45, Area: 0.5},
		"a window in a corner":   {Change: 300, Detail: 150, Novelty: 0.12, Area: 0.3},
		"motion after stillness": {Change: 240, Detail: 150, Novelty: 0.06, Area: 1},
	} {
		c, e := started()
		for range 200 {
			c.Done(e.encode(c.Refine(), 0, 0))
		}
		if c.frame.Quantizer != Finest {
			t.Fatalf("%s: a picture that stands still for long has a quantizer of %d", name, c.frame.Quantizer)
		}
		anew := map[string]float64{"cut": 1, "half of the picture": 0.5, "a window in a corner": 0.12}[name]
		size := e.encode(c.Next(false, l), 1-anew, anew)
		c.Done(size)
		sizes := append([]float64{float64(size) / budget}, play(c, e, 10)...)
		sum, most := total(sizes)
		t.Logf("%s: %.1f", name, sizes)
		if most > 2 || sum > 12 {
			t.Errorf("%s: frames of %.1f budgets", name, sizes)
		}
	}
}

func TestKeyFrameFits(t *testing.T) {
	t.Parallel()
	c, e := started()
	for range 5 {
		size := float64(e.encode(c.Next(true, motion), 0, 1))
		c.Done(int(size))
		if size > 2*budget || size < budget/2 {
			t.Errorf("a key frame of %.1f budgets", size/budget)
		}
		play(c, e, 30)
	}
}

// TestStillPictureIsRefined: slice by slice, each within the budget, without leaving
// anything out, until it is as good as it becomes.
func TestStillPictureIsRefined(t *testing.T) {
	t.Parallel()
	for _, kbps := range []int{2000, 8000} {
		c, e := started()
		c.SetBudget(kbps * 1000 / 8 / 60)
		play(c, e, 30)
		at, quantizer, sum, frames := 1.0, c.frame.Quantizer, 0.0, 0
		for ; frames < 1000; frames++ {
			f := c.Refine()
			if f.Quantizer < quantizer {
				if at < 1 {
					t.Fatalf("%+v: the rest of the picture was left out from %.2f on", f, at)
				}
				at, quantizer = 0, f.Quantizer
			}
			if f.Top != at && f.Bottom > f.Top || f.Quantizer > quantizer {
				t.Fatalf("%+v after quantizer %d to %.2f", f, quantizer, at)
			}
			at = f.Bottom
			size := float64(e.encode(f, 0, 0))
			settled, owed := c.Done(int(size))
			sum += size / c.budget
			if size > 2.5*c.budget || owed > 0 {
				t.Errorf("%d kbit/s: %+v takes %.1f budgets, %.1f frames are left out", kbps, f, size/c.budget, owed)
			}
			if settled {
				break
			}
		}
		t.Logf("%d kbit/s: %d frames, %.2f budgets each", kbps, frames, sum/float64(frames))
		if quantizer != Finest || at < 1 || sum > 1.1*float64(frames) {
			t.Errorf("%d kbit/s: quantizer %d to %.2f after %d frames of %.2f budgets", kbps, quantizer, at, frames, sum/float64(frames))
		}
		for i, q := range e.rows {
			if q > Finest {
				t.Errorf("part %d stays at quantizer %.0f", i, q)
			}
		}
		if c.Done(25); c.Refine().Bottom-c.frame.Top > 0 {
			t.Error("what is as good as it becomes is encoded again")
		}
	}
}

// TestStillPartIsRefinedBesideAChange: a small animation does not keep the rest from
// becoming good, and a large one has the bitrate for itself.
func TestStillPartIsRefinedBesideAChange(t *testing.T) {
	t.Parallel()
	for _, part := range []struct {
		share  float64
		finest int
	}{{0.001, Finest}, {0.3, 40}} {
		c, e := started()
		most, sum := 0.0, 0.0
		for i := range 300 {
			size := float64(e.encode(c.Next(false, Look{Change: 240 * part.share, Detail: 150, Area: 0.2}), part.share, 0)) / budget
			c.Done(int(size * budget))
			if i > 10 {
				most, sum = max(most, size), sum+size
			}
		}
		t.Logf("a change of %.1f %%: quantizer %d, at most %.1f budgets, %.2f on average", 100*part.share, c.frame.Quantizer, most, sum/289)
		if c.frame.Quantizer > part.finest || most > 2.5 || sum/289 > 1.1 {
			t.Errorf("a change of %.1f %%: quantizer %d, at most %.1f budgets, %.2f on average", 100*part.share, c.frame.Quantizer, most, sum/289)
		}
	}
}

// TestTooLargeFramesAreFollowedByAPause: a budget that the coarsest frames do not fit.
func TestTooLargeFramesAreFollowedByAPause(t *testing.T) {
	t.Parallel()
	c, e := started()
	c.SetBudget(400)
	c.debt = 0
	sum, time, queue, most := 0.0, 0.0, 0.0, 0.0
	for range 300 {
		f := c.Next(false, motion)
		size := float64(e.encode(f, 1, 0))
		_, owed := c.Done(int(size))
		sum += size / 400
		queue = max(queue+size/400, 0)
		most = max(most, queue)
		time += 1 + owed
		queue = max(queue-1-owed, 0)
		if f.Quantizer != Coarsest {
			t.Fatalf("quantizer %d", f.Quantizer)
		}
	}
	t.Logf("%.2f of the bitrate in %.0f frames' time, at most %.1f waiting", sum/time, time, most)
	if sum/time > 1.05 || most > 6 {
		t.Errorf("%.2f of the bitrate, %.1f budgets waiting", sum/time, most)
	}
}

func TestQuantizerStaysInItsRange(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		c := New(1+r.IntN(1<<24), r.IntN(1<<18))
		for range 50 {
			var f Frame
			if r.IntN(4) == 0 {
				f = c.Refine()
			} else {
				f = c.Next(r.IntN(20) == 0, Look{Change: r.ExpFloat64() * 100, Detail: r.ExpFloat64() * 100, Novelty: r.Float64() * 2, Area: float64(r.IntN(5)) / 4})
			}
			if f.Quantizer < Finest || f.Quantizer > Coarsest || f.Top < 0 || f.Top > f.Bottom || f.Bottom > 1 {
				t.Fatalf("%+v", f)
			}
			if _, owed := c.Done(r.IntN(1 << uint(r.IntN(24)))); owed < 0 || math.IsNaN(owed) || math.IsInf(owed, 0) {
				t.Fatalf("%v frames are left out", owed)
			}
		}
	}
}
