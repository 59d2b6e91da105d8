package session

import (
	"slices"

	"fenrir/media"
)

// maxSounds bounds the ways in which a session's sound is encoded at once.
const maxSounds = 4

// sound is one way to encode what the session plays. The worker of one rung makes
// it: of a picture that begins just when the sound is wanted, else one that makes
// nothing else. Who wants another way has another sound; a browser's is the first.
type sound struct {
	spec    media.AudioSpec
	packets *Fanout
	carrier *rung // guarded by Session.mu: whose worker makes it; nil: nobody's
}

// houseSound is how sound is encoded for those who want nothing else. Without
// audio it is never carried.
func houseSound(spec *media.AudioSpec) *sound {
	a := &sound{packets: NewFanout(media.Audio, nil)}
	if spec != nil {
		a.spec = *spec
	}
	return a
}

// soundFor finds the sound for who wants spec, nil: the house's. It is not carried
// yet when it is new. Called with mu held.
func (s *Session) soundFor(spec *media.AudioSpec) (*sound, error) {
	if spec == nil || s.cfg.Audio == nil {
		return s.sounds[0], nil
	}
	for _, a := range s.sounds {
		if a.spec == *spec {
			return a, nil
		}
	}
	s.sounds = slices.DeleteFunc(s.sounds, func(a *sound) bool {
		return a != s.sounds[0] && a.carrier == nil && s.listeners(a) == 0
	})
	if len(s.sounds) >= maxSounds {
		return nil, media.NewCause(media.CauseTooMany, "the session encodes its sound in %d ways already", maxSounds)
	}
	a := &sound{spec: *spec, packets: NewFanout(media.Audio, nil)}
	s.sounds = append(s.sounds, a)
	return a, nil
}

// listeners counts the peers of a, away or not. Called with mu held.
func (s *Session) listeners(a *sound) (n int) {
	for _, p := range s.peers {
		if p.sound == a {
			n++
		}
	}
	return n
}

// carry makes r the rung whose worker makes a, if none does. Called with mu held,
// before r starts.
func (s *Session) carry(r *rung, a *sound) {
	if a != nil && a.carrier == nil && s.cfg.Audio != nil {
		a.carrier, r.sound = r, a
	}
}

// voice starts a worker for a sound that no worker makes. Called with mu held.
func (s *Session) voice(a *sound) {
	if a.carrier != nil || s.cfg.Audio == nil {
		return
	}
	r := s.newRung(Choice{Encoder: media.Encoder{Name: "opus", Family: "software", Codec: media.Opus, Works: true}})
	r.voice = true
	s.carry(r, a)
	s.launch(r)
}

// uncarry forgets that r makes a sound. Called with mu held.
func (s *Session) uncarry(r *rung) {
	for _, a := range s.sounds {
		if a.carrier == r {
			a.carrier = nil
		}
	}
}
