// Package rate chooses the quantizer of each frame of a video stream, so that
// every frame takes about its share of the bitrate: of the sizes that the last
// frames came out with, and of what can be seen of a picture before it is
// encoded. It imports nothing, knows no clock and starts nothing.
//
// A frame's size is taken to halve with every six steps of the quantizer, as the
// steps of H.264 double: what is left, log2(bytes) + quantizer/6, is called its
// weight here. The weight of the next frame is that of the last ones, until the
// pictures tell that something else begins.
package rate

import "math"

// The range of quantizers that are chosen. Beyond it nobody sees a difference, and
// frames become hardly smaller: 51 is the standard's end, beyond which x264 leaves out
// more and more.
const (
	Finest   = 14
	Coarsest = 54
)

const (
	keyShare = 1.5 // budgets that a key frame may take
	repaid   = 4.0 // frames in which what was too much is saved again
	saved    = 0.5 // budgets that are carried over at most
	least    = 0.3 // of the budget, for a frame
	most     = 1.1
	patience = 3.0 // budgets of debt, from which on frames are left out

	memory = 0.5  // share of the last frame in the weight expected
	anew   = -2.6 // weight of a picture coded anew, with one pixel and a detail of one
	onset  = 2.0  // doublings of the change, from which on a motion begins
	level  = 1.0  // change that is nothing

	quiet    = 0.5 // share of the picture that changes, below which the rest is refined
	refine   = 2   // steps by which it becomes finer
	slice    = 1.0 / 64
	widen    = 2.0 // times a slice is wider than the one before, at most
	surprise = 3.0 // times as many bytes as by the quantizer before are no surprise
	densest  = 0.5 // bits that a pixel takes to become finer by that much; single slices take nearly twice as many
	reserve  = 0.5 // share of the budget that changes leave, if there is to be a slice
)

// Look is what can be seen of a picture.
type Look struct {
	Change  float64 // mean squared difference of its pixels to the picture before
	Detail  float64 // mean squared difference between neighbouring pixels
	Novelty float64 // share of it that cannot be found in the picture before, from 0 to 1
	Area    float64 // share of its blocks in which something changed
}

// Frame is how a picture is to be encoded.
type Frame struct {
	Quantizer int // between Finest and Coarsest
	// Top and Bottom bound the part of it, in shares of its height, that is encoded
	// even where nothing changed.
	Top, Bottom float64
}

// Control is the state of one stream of pictures of one size. One goroutine uses it.
type Control struct {
	pixels float64 // log2
	budget float64 // bytes of a frame
	debt   float64 // bytes that were too much

	begun bool
	frame Frame   // the last one
	step  int     // of its quantizer, from the frame before
	last  Look    // at its picture
	fresh float64 // share of it that was coded anew
	size  float64 // bytes

	weight float64 // of changes that are not coded anew
	moving float64 // weight of moving pictures for one pixel and a change of one
	anew   float64 // of those coded anew, see the constant

	// A picture that mostly stands still is refined by slices from top to bottom,
	// so that no frame takes more than its share, and then again by a finer quantizer.
	sliced bool    // the last frame had a slice
	share  float64 // of the picture in a slice
	sweep  float64 // bytes of the slices so far that refined it by the present quantizer,
	before float64 // and of all by the one before
	rest   float64 // bytes of the last frame, as predicted, that are not the slice's
}

// New returns a Control for pictures of so many pixels, of which each frame may
// take budget bytes.
func New(pixels, budget int) *Control {
	c := &Control{pixels: math.Log2(float64(max(pixels, 1))), anew: anew, moving: anew - 1, share: slice, frame: Frame{Quantizer: 30, Bottom: 1}}
	c.SetBudget(budget)
	return c
}

// SetBudget changes the bytes that a frame may take, at least 1.
func (c *Control) SetBudget(bytes int) { c.budget = float64(max(bytes, 1)) }

// Next returns how to encode a new picture.
func (c *Control) Next(key bool, l Look) Frame {
	before, target := c.frame.Quantizer, c.target()
	if c.sliced = false; l.Area == 0 && c.begun && !key {
		return c.Refine()
	}
	q := before
	switch weight := c.weigh(l); {
	case key || !c.begun:
		c.fresh = 1
		q = quantizer(c.newly(l), target*keyShare)
		c.whole()
	case l.Area < quiet:
		if q = max(q, quantizer(weight, target)); q > before {
			c.whole() // of all that is finer there is nothing to tell
			c.frame.Top = 1
		} else {
			q = c.slice(math.Exp2(weight-float64(q)/6), target, quantizer(weight, target))
		}
	default:
		q = c.cautious(6*(weight-math.Log2(target)), target)
		c.whole()
	}
	c.step, c.frame.Quantizer = q-before, q
	c.last, c.begun = l, true
	return c.frame
}

// Refine returns how to encode the last picture once more.
func (c *Control) Refine() Frame {
	before := c.frame.Quantizer
	c.last.Change, c.last.Area, c.fresh = 0, 0, 0
	c.frame.Quantizer = c.slice(0, c.target(), Finest)
	c.step = c.frame.Quantizer - before
	return c.frame
}

// widest is a slice that takes little more than the budget even if it is as dense
// as any.
func (c *Control) widest() float64 {
	return min(max(1.5*8*c.budget/(densest*math.Exp2(c.pixels)), slice), 1)
}

// whole has all of the picture encoded.
func (c *Control) whole() {
	c.frame.Top, c.frame.Bottom = 0, 1
	c.share, c.sweep, c.before = c.widest(), 0, 0
}

// slice goes on with the refinement, by a slice that fits beside the rest of the
// frame, and returns its quantizer, finest at the finest.
func (c *Control) slice(rest, target float64, finest int) int {
	q := c.frame.Quantizer
	c.rest = rest
	c.sliced = false
	c.frame.Top = c.frame.Bottom
	if rest > target*reserve {
		return q
	}
	if c.frame.Bottom >= 1 {
		finer := max(q-refine, finest, Finest)
		if finer >= q {
			return q
		}
		q = finer
		// The finer quantizer may take several times what the one before took.
		c.frame.Top = 0
		c.share = min(c.share, c.widest()/2, (target-rest)/(surprise*max(c.sweep, 1)))
		c.sweep, c.before = 0, c.sweep
	}
	c.share = max(min(c.share, c.widest(), (target-rest)/max(c.sweep, c.before, 1)), slice)
	c.sliced = true
	c.frame.Bottom = min(c.frame.Top+c.share, 1)
	return q
}

// cautious is the quantizer of a moving picture: finer by small steps, since
// what was left out before is to be made up for then.
func (c *Control) cautious(want, target float64) int {
	before := c.frame.Quantizer
	if want >= float64(before) {
		return bound(math.Round(want))
	}
	steps := 1
	switch {
	case c.size > 0.9*target:
		steps = 0
	case c.size < target/4:
		steps = 3
	case c.size < target/2:
		steps = 2
	}
	return max(bound(math.Ceil(want)), before-steps)
}

// target is what the next frame may take.
func (c *Control) target() float64 {
	return min(max(c.budget-c.debt/repaid, least*c.budget), most*c.budget)
}

func quantizer(weight, bytes float64) int { return bound(math.Round(6 * (weight - math.Log2(bytes)))) }

func bound(q float64) int { return int(min(max(q, Finest), Coarsest)) }

// newly is the weight of a picture that is coded anew.
func (c *Control) newly(l Look) float64 { return c.pixels + c.anew + math.Log2(l.Detail+1)/2 }

// weigh predicts the weight of the next frame.
func (c *Control) weigh(l Look) float64 {
	newly := c.newly(l)
	grown := math.Log2((l.Change + level) / (c.last.Change + level))
	weight := c.weight + min(max(grown, -1), onset)/2
	if grown > onset {
		// A motion begins, which may be easy to follow or not.
		begins := c.pixels + c.moving + math.Log2(l.Change+1)/2
		weight = max(weight, min(begins, newly))
	}
	c.fresh = min(max(1.3*l.Novelty-0.1, 0), 1)
	if weight < newly {
		weight = math.Log2((1-c.fresh)*math.Exp2(weight) + c.fresh*math.Exp2(newly))
	}
	return weight
}

// Done tells the size in bytes of the last frame. It returns whether the picture is as
// good as it becomes, and how many frames to leave out before the next: what
// came out is so much too large that a picture taken later arrives as early.
func (c *Control) Done(bytes int) (settled bool, owed float64) {
	c.size = float64(max(bytes, 1))
	c.learn(c.target())
	c.debt = max(c.debt+c.size-c.budget, -saved*c.budget)
	if c.debt > patience*c.budget {
		owed = c.debt/c.budget - 1
		c.debt = c.budget
	}
	return c.frame.Bottom >= 1 && c.frame.Quantizer <= Finest, owed
}

// learn draws the conclusions from the last frame, of which target was wanted.
func (c *Control) learn(target float64) {
	weight := math.Log2(c.size) + float64(c.frame.Quantizer)/6
	switch {
	case c.sliced:
		room, took := max(target-c.rest, target/8), max(c.size-c.rest, 1)
		part := c.frame.Bottom - c.frame.Top
		c.sweep += took
		c.share = min(max(part*min(room/took, widen), slice), 1)
		if c.last.Area > 0 && c.size > 2*target && part <= slice {
			c.weight = weight
		} else {
			c.weight = min(c.weight, weight)
		}
		return
	case c.last.Area == 0: // once more what was as good as it becomes
		return
	}
	switch {
	case c.fresh > 0.7:
		c.anew += (weight - c.newly(c.last)) / 2
		c.weight = weight - 2 // what comes after it is not like it
	case c.size > 2*c.budget && c.step >= 0:
		c.weight = weight
	default:
		c.weight += (weight - c.weight) * memory
	}
	if c.fresh < 0.5 && c.last.Change > 8 {
		c.moving += (weight - c.pixels - math.Log2(c.last.Change+1)/2 - c.moving) / 8
	}
}
