package browser

import (
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/pion/webrtc/v4"

	"fenrir/media"
	"fenrir/signaling"
	"fenrir/signaling/browser/peer"
)

func isLoopback(ip net.IP) bool { return ip.IsLoopback() }

func TestTCPOnly(t *testing.T) {
	b := newBench(t, func(s *Server) { s.Network.UDP = "" })
	c := b.connect(func(c *clientConfig) { c.tcp = true })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	start(t, b.session.get("tab-00000001"), 10*time.Millisecond, 20000)
	for range 200 {
		get(t, c.video, "video")
	}
	pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	must(t, err)
	if pair.Local.Protocol != webrtc.ICEProtocolTCP {
		t.Errorf("went over %s", pair)
	}
}

func TestICERestartKeepsTheSession(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 500)
	before := get(t, c.video, "video")
	c.open(c.input)
	for range 3 {
		c.offer(&webrtc.OfferOptions{ICERestart: true})
		c.until(webrtc.PeerConnectionStateConnected)
		after := get(t, c.video, "video")
		if after.SSRC != before.SSRC {
			t.Errorf("stream %d became %d", before.SSRC, after.SSRC)
		}
	}
	must(t, c.input.Send(packet(t, media.Input{Kind: media.ButtonDown, Button: 1})))
	for get(t, att.inputs, "input").Kind != media.ButtonDown {
	}
	if b.session.made != 1 {
		t.Errorf("attached %d times", b.session.made)
	}
}

func TestCandidatesMayComeFirst(t *testing.T) {
	b := newBench(t)
	c := b.connect()
	c.send(signaling.Candidate{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host"})
	c.send(signaling.Candidate{Candidate: "candidate:1 1 udp 1 aaaa.local 1 typ host"})
	c.send(signaling.Candidate{Candidate: "complete nonsense"})
	c.send(signaling.Candidate{})
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
}

func TestManyPeersShareOnePort(t *testing.T) {
	const peers = 20
	b := newBench(t)
	port := b.server.UDPAddr().(*net.UDPAddr).Port
	var wg sync.WaitGroup
	clients := make([]*client, peers)
	for i := range peers {
		clients[i] = b.connect(func(c *clientConfig) { c.peer = fmt.Sprintf("tab-%08d", i) })
		clients[i].offer(nil)
	}
	for i, c := range clients {
		wg.Add(1)
		go func() {
			defer wg.Done()
			c.until(webrtc.PeerConnectionStateConnected)
			att := b.session.get(fmt.Sprintf("tab-%08d", i))
			att.video <- h264Unit(0, true, 100+i)
			get(t, c.video, "video")
		}()
	}
	wg.Wait()
	for _, c := range clients {
		pair, err := c.pc.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
		must(t, err)
		if int(pair.Remote.Port) != port {
			t.Errorf("connected to port %d, want %d", pair.Remote.Port, port)
		}
	}
	if n := b.server.Peers(); n != peers {
		t.Errorf("%d peers", n)
	}
}

func TestLostPacketsAreSentAgain(t *testing.T) {
	b := newBench(t)
	drop := newLossy(t, 20)
	c := b.connect(func(c *clientConfig) { c.engine = drop.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 10*time.Millisecond, 5000)
	first := get(t, c.video, "video").SequenceNumber
	got := map[uint16]bool{first: true}
	missing := func(upTo uint16) (n int) {
		for s := first; int16(upTo-s) > 0; s++ {
			if !got[s] {
				n++
			}
		}
		return n
	}
	// Of the first 500 packets all arrive in the end, although many were dropped; but
	// where the machine stood still for so long that the path passes for full, a key
	// frame makes up for what is missing before it.
	end := first + 500
	for deadline := time.After(patience); missing(end) > 0; {
		select {
		case p := <-c.video:
			got[p.SequenceNumber] = true
			if beginsKeyFrame(p.Payload) && int16(p.SequenceNumber-first) > 0 {
				first = p.SequenceNumber
			}
		case <-deadline:
			t.Fatalf("%d packets never came; %d were dropped; totals %+v", missing(end), drop.dropped.Load(), b.server.Stats().Totals)
		}
	}
	s := b.server.Stats().Totals
	if drop.dropped.Load() == 0 || s.Resent == 0 || s.NACKs == 0 {
		t.Errorf("dropped %d, totals %+v", drop.dropped.Load(), s)
	}
}

// beginsKeyFrame tells of an H.264 payload whether parameter sets come first.
func beginsKeyFrame(payload []byte) bool {
	const sps, stapA = 7, 24
	return len(payload) > 3 && (payload[0]&0x1F == sps || payload[0]&0x1F == stapA && payload[3]&0x1F == sps)
}

// The network goes away and comes back with another path: the session, its
// attachment and the stream stay.
func TestABrokenPathIsRepairedByAnICERestart(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for seconds
	b := newBench(t)
	net := newLossy(t, 1<<60)
	c := b.connect(func(c *clientConfig) { c.engine = net.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	start(t, att, 20*time.Millisecond, 500)
	before := get(t, c.video, "video")
	net.cut.Store(true)
	begin := time.Now()
	for { // what the peer holds is released when its path breaks
		if in := get(t, att.inputs, "release"); in.Kind == media.ReleaseAll {
			break
		}
	}
	if took := time.Since(begin); took > 6*time.Second {
		t.Errorf("noticed after %v", took)
	}
	if !get(t, att.away, "word that nothing reaches the client") || time.Since(begin) > 5*time.Second {
		t.Errorf("the session heard of it after %v", time.Since(begin))
	}
	c.until(webrtc.PeerConnectionStateDisconnected)
	net.cut.Store(false)
	for len(att.keys) > 0 {
		<-att.keys
	}
	c.offer(&webrtc.OfferOptions{ICERestart: true})
	c.until(webrtc.PeerConnectionStateConnected)
	if get(t, att.away, "word that the client is back") {
		t.Error("the client is said to be away twice")
	}
	for len(c.video) > 0 {
		<-c.video
	}
	if p := get(t, c.video, "video on the new path"); p.SSRC != before.SSRC {
		t.Errorf("stream %d became %d", before.SSRC, p.SSRC)
	}
	if b.session.made != 1 || b.server.Peers() != 1 {
		t.Errorf("attached %d times, %d peers", b.session.made, b.server.Peers())
	}
}

func TestAPathThatStaysBrokenEndsThePeer(t *testing.T) {
	inFull(t)
	t.Parallel() // it waits for half a minute
	b := newBench(t)
	net := newLossy(t, 1<<60)
	c := b.connect(func(c *clientConfig) { c.engine = net.install })
	c.offer(nil)
	c.until(webrtc.PeerConnectionStateConnected)
	att := b.session.get("tab-00000001")
	att.video <- h264Unit(0, true, 100)
	get(t, c.video, "video")
	net.cut.Store(true)
	begin := time.Now()
	select {
	case cause := <-att.detached:
		if cause.Code != media.CauseICE {
			t.Errorf("detached with %v", cause)
		}
	case <-time.After(peer.RestartTimeout + 15*time.Second):
		t.Fatal("the peer is still there")
	}
	if took := time.Since(begin); took < peer.RestartTimeout || took > 29*time.Second {
		t.Errorf("after %v", took)
	}
	if bye := c.bye(); bye.Code != media.CauseICE || !bye.Retry {
		t.Errorf("bye %+v", bye)
	}
	if code := closeCode(get(t, c.closed, "close")); code != signaling.CloseICE {
		t.Errorf("close code %d", code)
	}
}
