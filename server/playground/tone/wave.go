package tone

import "math"

const (
	rate    = 48000 // samples a second, mono
	attack  = rate / 500
	length  = rate * 3 / 10 // of a tone, samples
	release = rate / 50     // its last samples fade to nothing
	voices  = 12
	loud    = 0.22
)

// Pitch is the frequency in Hz of a key's tone. Every X keycode, 8…255, has its
// own: the letter rows go up in semitones, the rest lies above them.
func Pitch(keycode int) float64 {
	if keycode >= 9 && keycode <= 66 {
		return 110 * math.Pow(2, float64(keycode-12)/12)
	}
	return 2600 * math.Pow(2, float64(keycode-8)/240)
}

// voice is one tone that sounds.
type voice struct {
	step float64 // of the phase, per sample, in turns
	at   int     // samples played
}

// mixer makes samples of the tones that sound.
type mixer struct{ playing []voice }

func (m *mixer) add(pitch float64) {
	if len(m.playing) == voices {
		m.playing = m.playing[1:]
	}
	m.playing = append(m.playing, voice{step: pitch / rate})
}

// read fills b with signed 16-bit little-endian samples and returns how many
// bytes that is: all of b, or 0 when it is silent.
func (m *mixer) read(b []byte) int {
	if len(m.playing) == 0 {
		return 0
	}
	for i := 0; i+1 < len(b); i += 2 {
		sum := 0.0
		for v := range m.playing {
			sum += m.playing[v].next()
		}
		s := int16(32767 * max(-1, min(1, sum)))
		b[i], b[i+1] = byte(s), byte(s>>8)
	}
	live := m.playing[:0]
	for _, v := range m.playing {
		if v.at < length {
			live = append(live, v)
		}
	}
	m.playing = live
	return len(b) &^ 1
}

// next is the voice's next sample.
func (v *voice) next() float64 {
	if v.at >= length {
		return 0
	}
	t := float64(v.at)
	level := loud * math.Exp(-5*t/length)
	if v.at < attack {
		level *= t / attack
	}
	if left := length - v.at; left < release {
		level *= float64(left) / release
	}
	_, phase := math.Modf(t * v.step)
	v.at++
	s := math.Sin(2 * math.Pi * phase)
	return level * (s + .25*math.Sin(4*math.Pi*phase) + .12*math.Sin(6*math.Pi*phase))
}
