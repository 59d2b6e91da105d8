package session

// Totals count what got lost or was refused. They only grow.
type Totals struct {
	VideoLost     uint64 // frames that slow peers lost
	AudioLost     uint64 // audio packets that slow peers lost
	EncoderDrops  uint64 // frames that media workers dropped because a stage was busy
	InputsDenied  uint64 // inputs that a grant did not allow
	InputsDropped uint64 // inputs that the devices were too slow for
}

func (t *Totals) add(o Totals) {
	t.VideoLost += o.VideoLost
	t.AudioLost += o.AudioLost
	t.EncoderDrops += o.EncoderDrops
	t.InputsDenied += o.InputsDenied
	t.InputsDropped += o.InputsDropped
}

// totals are those of one peer.
func (p *Peer) totals() Totals {
	return Totals{VideoLost: p.video.Dropped(), AudioLost: p.audio.Dropped(), InputsDenied: p.denied.Load()}
}

// Totals are those of the session so far.
func (s *Session) Totals() Totals {
	s.mu.Lock()
	t := s.totals
	for _, p := range s.peers {
		t.add(p.totals())
	}
	s.mu.Unlock()
	s.inputs.mu.Lock()
	t.InputsDropped += s.inputs.dropped
	s.inputs.mu.Unlock()
	return t
}

// Totals are those of all sessions so far.
func (g *Registry) Totals() Totals {
	all := g.All()
	g.mu.Lock()
	t := g.totals
	g.mu.Unlock()
	for _, s := range all {
		t.add(s.Totals())
	}
	return t
}
