package browser

import "fenrir/signaling/browser/peer"

// What metrics read of peers.
type (
	Totals    = peer.Totals
	PeerStats = peer.Stats
)

// Stats is a snapshot for metrics.
type Stats struct {
	Peers  []PeerStats
	Totals Totals // of all peers since Listen
}

// Stats takes a snapshot. It does not block.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := Stats{Totals: s.gone, Peers: make([]PeerStats, 0, len(s.peers))}
	for p := range s.peers {
		ps := p.Stats()
		out.Totals.Add(ps.Totals)
		out.Peers = append(out.Peers, ps)
	}
	return out
}
