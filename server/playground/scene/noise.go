// Package scene draws the playground's worlds: Night, where a wolf chases a
// light under the aurora, and Rush, game-like motion over the whole picture.
// It promises pictures that cost little: what does not change is drawn once per
// size and copied. It reads no clock: worlds move by steps of a sixtieth of a second.
package scene

import "math"

// chance is a small deterministic generator of numbers (xorshift).
type chance uint32

func (c *chance) next() uint32 {
	v := uint32(*c)
	if v == 0 {
		v = 0x9e3779b9
	}
	v ^= v << 13
	v ^= v >> 17
	v ^= v << 5
	*c = chance(v)
	return v
}

// below is a number in 0…n−1.
func (c *chance) below(n int) int { return int(c.next() % uint32(max(n, 1))) }

// between is a number in a…b.
func (c *chance) between(a, b float64) float64 {
	return a + (b-a)*float64(c.next()>>8)/float64(1<<24)
}

// ridge is a hilly line over n columns that meets itself at the ends, with
// values in 0…1. Rough is the share of its small features.
func ridge(n int, seed uint32, bumps int, rough float64) []float64 {
	c := chance(seed)
	line := make([]float64, n)
	total, size := 0.0, 1.0
	for k := bumps; k < bumps*32 && k < n/3; k *= 2 {
		for range 2 {
			cycles, phase := float64(k+c.below(k)), c.between(0, 2*math.Pi)
			for x := range line {
				line[x] += size * math.Sin(2*math.Pi*cycles*float64(x)/float64(n)+phase)
			}
			total += size
		}
		size *= rough
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, v := range line {
		low, high = min(low, v), max(high, v)
	}
	for x := range line {
		line[x] = (line[x] - low) / (high - low)
	}
	return line
}

// sine is 256·sin over 1024 steps.
var sine = func() (t [1024]int32) {
	for i := range t {
		t[i] = int32(math.Round(256 * math.Sin(2*math.Pi*float64(i)/1024)))
	}
	return t
}()

// wave is 256·sin(2π·at/1024).
func wave(at int) int32 { return sine[at&1023] }
