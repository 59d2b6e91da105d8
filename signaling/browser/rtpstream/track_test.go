package rtpstream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"

	"fenrir/media"
)

// sampleUnit is a key frame of about n bytes in the byte format of a codec.
func sampleUnit(codec media.Codec, n int) media.Unit {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(i%251) + 3 // never a start code
	}
	annexB := func(nals ...[]byte) (b []byte) {
		for _, n := range nals {
			b = append(append(b, 0, 0, 0, 1), n...)
		}
		return b
	}
	var data []byte
	switch codec {
	case media.H264:
		data = annexB([]byte{0x67, 0x42, 0xc0, 0x1f, 0x8c}, []byte{0x68, 0xce, 0x3c, 0x80}, append([]byte{0x65}, body...))
	case media.H265:
		data = annexB([]byte{0x40, 1, 12}, []byte{0x42, 1, 1, 1}, []byte{0x44, 1, 0xc1}, append([]byte{0x26, 1}, body...))
	case media.AV1:
		data = append([]byte{0x12, 0x00, 0x0a, 0x0b, 0, 0, 0, 0x24, 0xcf, 0x7f, 0xd9, 0x9f, 0xff, 0xf8, 0x20}, 0x32)
		for v := n; ; v >>= 7 {
			if v < 0x80 {
				data = append(data, byte(v))
				break
			}
			data = append(data, byte(v)|0x80)
		}
		data = append(data, body...)
	case media.VP8:
		data = append([]byte{0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x00, 0x05, 0xd0, 0x02}, body...)
	case media.VP9:
		data = append([]byte{0x82, 0x49, 0x83, 0x42, 0x00, 0x4f, 0xf0, 0x2c, 0xf6}, body...)
	}
	now := media.Now()
	return media.Unit{Kind: media.Video, Codec: codec, Key: true, Width: 1280, Height: 720, Data: data, Stages: media.Stages{Captured: now, Received: now}}
}

// collect sends u and returns its packets.
func collect(t testing.TB, codec media.Codec, units ...media.Unit) [][]*rtp.Packet {
	t.Helper()
	var out []*rtp.Packet
	tr := newBound(t, codec, func(h *rtp.Header, p []byte) (int, error) {
		out = append(out, &rtp.Packet{Header: h.Clone(), Payload: slices.Clone(p)})
		return 0, nil
	})
	var all [][]*rtp.Packet
	for i := range units {
		out = nil
		if err := tr.Send(t.Context(), &units[i]); err != nil {
			t.Fatalf("%s unit %d: %v", codec, i, err)
		}
		all = append(all, out)
	}
	return all
}

// put together again by pion's depacketisers, which know nothing of ours.
func reassemble(codec media.Codec, packets []*rtp.Packet) ([]byte, error) {
	var d rtp.Depacketizer
	switch codec {
	case media.H264:
		d = &codecs.H264Packet{}
	case media.H265:
		d = &codecs.H265Depacketizer{}
	case media.AV1:
		d = &codecs.AV1Depacketizer{}
	case media.VP8:
		d = &codecs.VP8Packet{}
	case media.VP9:
		d = &codecs.VP9Packet{}
	}
	var out []byte
	for i, p := range packets {
		b, err := d.Unmarshal(p.Payload)
		if err != nil {
			return nil, fmt.Errorf("packet %d: %w", i, err)
		}
		out = append(out, b...)
	}
	return out, nil
}

// wanted is what must come out of u: without what is not sent, start codes and
// size fields in one form.
func wanted(u media.Unit) (out []byte) {
	switch u.Codec {
	case media.H264, media.H265:
		p := nalPacketizer{header: 1}
		if u.Codec == media.H265 {
			p.header = 2
		}
		for n := range nalUnits(u.Data) {
			if len(n) > p.header && !p.skip(n) {
				out = append(append(out, 0, 0, 0, 1), n...)
			}
		}
		return out
	case media.AV1:
		return bytes.TrimPrefix(u.Data, []byte{0x12, 0x00})
	}
	return u.Data
}

func TestUnitsComeOutAsTheyWentIn(t *testing.T) {
	for _, codec := range []media.Codec{media.H264, media.H265, media.AV1, media.VP8, media.VP9} {
		for _, size := range []int{1, 5, 100, 127, 128, 1100, 1120, 1130, 1131, 1132, 1133, 1134, 1135, 1136, 1137, 1138, 1139, 1140, 1141, 1142, 1143, 1144, 1145, 1146, 1147, 1148, 1149, 1150, 1151, 2290, 2300, 5000, 70_000} {
			u := sampleUnit(codec, size)
			packets := collect(t, codec, u)[0]
			got, err := reassemble(codec, packets)
			if err != nil {
				t.Errorf("%s of %d bytes: %v", codec, size, err)
				continue
			}
			if !bytes.Equal(got, wanted(u)) {
				t.Errorf("%s of %d bytes: %d bytes came out in %d packets, want %d", codec, size, len(got), len(packets), len(wanted(u)))
			}
			for i, p := range packets {
				if last := i == len(packets)-1; p.Marker != last {
					t.Errorf("%s of %d bytes: packet %d of %d has marker %v", codec, size, i+1, len(packets), p.Marker)
				}
				if len(p.Payload) > payloadMTU || p.MarshalSize() > 1200 {
					t.Errorf("%s: packet of %d bytes", codec, p.MarshalSize())
				}
				if first := i == 0; (p.GetExtension(5) != nil) != first || (p.GetExtension(6) != nil) != first {
					t.Errorf("%s: packet %d has extensions %v", codec, i, p.GetExtensionIDs())
				}
				if p.Timestamp != packets[0].Timestamp || p.SequenceNumber != packets[0].SequenceNumber+uint16(i) || p.SSRC != 1234 || p.PayloadType != 96 {
					t.Errorf("%s: packet %d: %v", codec, i, p)
				}
			}
			if want := (len(u.Data) + payloadMTU - 1) / (payloadMTU - 12); len(packets) > want+1 {
				t.Errorf("%s of %d bytes took %d packets", codec, size, len(packets))
			}
		}
	}
}

func TestParameterSetsTravelTogether(t *testing.T) {
	u := sampleUnit(media.H264, 5000)
	packets := collect(t, media.H264, u)[0]
	if p := packets[0].Payload; p[0]&0x1F != h264STAPA || p[3]&0x1F != 7 {
		t.Errorf("first packet %x", p[:8])
	}
	if p := packets[1].Payload; p[0] != 0x60|h264FUA || p[1] != 0x80|5 {
		t.Errorf("second packet %x", p[:8])
	}
	if p := packets[len(packets)-1].Payload; p[1] != 0x40|5 {
		t.Errorf("last packet %x", p[:8])
	}
	u = sampleUnit(media.H265, 5000)
	packets = collect(t, media.H265, u)[0]
	if p := packets[0].Payload; p[0]>>1 != h265AP || p[1] != 1 {
		t.Errorf("first packet %x", p[:8])
	}
	if p := packets[1].Payload; p[0]>>1 != h265FU || p[2] != 0x80|19 {
		t.Errorf("second packet %x", p[:8])
	}
}

func TestDelimitersAndFillingAreNotSent(t *testing.T) {
	u := media.Unit{Kind: media.Video, Codec: media.H264, Data: []byte{0, 0, 0, 1, 9, 0xF0, 0, 0, 1, 0x41, 7, 7, 0, 0, 0, 1, 12, 255, 255, 128}, Stages: media.Stages{Captured: 1}}
	packets := collect(t, media.H264, u)[0]
	if len(packets) != 1 || !bytes.Equal(packets[0].Payload, []byte{0x41, 7, 7}) || !packets[0].Marker {
		t.Errorf("got %v", packets)
	}
	tr := newBound(t, media.H264, func(*rtp.Header, []byte) (int, error) { t.Error("a packet"); return 0, nil })
	for name, data := range map[string][]byte{"nothing": nil, "no start code": {1, 2, 3}, "a delimiter only": {0, 0, 1, 9, 0xF0}} {
		if err := tr.Send(t.Context(), &media.Unit{Codec: media.H264, Data: data, Stages: media.Stages{Captured: 1}}); !errors.Is(err, ErrUnit) {
			t.Errorf("%s: %v, want ErrUnit", name, err)
		}
	}
}

func TestVP9SaysWhichFramesAreKeyFrames(t *testing.T) {
	key, delta := sampleUnit(media.VP9, 3000), sampleUnit(media.VP9, 3000)
	delta.Key = false
	var last uint16
	for i, packets := range collect(t, media.VP9, key, delta, delta, key) {
		for j, p := range packets {
			var d codecs.VP9Packet
			if _, err := d.Unmarshal(p.Payload); err != nil {
				t.Fatal(err)
			}
			isKey := i == 0 || i == 3
			if d.P == isKey || !d.F || !d.I || d.B != (j == 0) || d.E != (j == len(packets)-1) || d.V != (isKey && j == 0) {
				t.Errorf("frame %d packet %d: %+v", i, j, d)
			}
			if !isKey && (len(d.PDiff) != 1 || d.PDiff[0] != 1) {
				t.Errorf("frame %d refers to %v", i, d.PDiff)
			}
			if d.V && (d.Width[0] != 1280 || d.Height[0] != 720 || d.NS != 0) {
				t.Errorf("size %v × %v", d.Width, d.Height)
			}
			if j == 0 && i > 0 && d.PictureID != (last+1)&0x7FFF {
				t.Errorf("picture %d after %d", d.PictureID, last)
			}
			last = d.PictureID
		}
	}
}

func TestVP8CountsPictures(t *testing.T) {
	var units []media.Unit
	for range 3 {
		units = append(units, sampleUnit(media.VP8, 3000))
	}
	var last uint16
	for i, packets := range collect(t, media.VP8, units...) {
		for j, p := range packets {
			var d codecs.VP8Packet
			if _, err := d.Unmarshal(p.Payload); err != nil {
				t.Fatal(err)
			}
			if (d.S == 1) != (j == 0) || d.I != 1 || p.Payload[2]&0x80 == 0 || d.N != 0 || d.PID != 0 {
				t.Errorf("packet %d: %+v", j, d)
			}
			if j == 0 && i > 0 && d.PictureID != (last+1)&0x7FFF {
				t.Errorf("picture %d after %d", d.PictureID, last)
			}
			last = d.PictureID
		}
	}
}

func TestAV1MarksNewSequences(t *testing.T) {
	key := sampleUnit(media.AV1, 3000)
	delta := media.Unit{Codec: media.AV1, Data: []byte{0x12, 0, 0x32, 3, 1, 2, 3}, Stages: media.Stages{Captured: 1}}
	for i, packets := range collect(t, media.AV1, key, delta) {
		for j, p := range packets {
			if want := i == 0 && j == 0; p.Payload[0]&av1NewSequence != 0 != want {
				t.Errorf("unit %d packet %d: aggregation header %08b", i, j, p.Payload[0])
			}
		}
	}
	for name, data := range map[string][]byte{
		"forbidden bit": {0x92, 0}, "size beyond the end": {0x32, 9, 1}, "endless size": {0x32, 255, 255, 255, 255, 255, 255, 255, 255, 255}, "no extension": {0x36},
	} {
		tr := newBound(t, media.AV1, func(*rtp.Header, []byte) (int, error) { return 0, nil })
		if err := tr.Send(t.Context(), &media.Unit{Codec: media.AV1, Data: data, Stages: media.Stages{Captured: 1}}); !errors.Is(err, ErrUnit) {
			t.Errorf("%s: %v, want ErrUnit", name, err)
		}
	}
}

func TestConstrainedBaselineIsPreferred(t *testing.T) {
	h264 := func(pt webrtc.PayloadType, profile string) webrtc.RTPCodecParameters {
		return webrtc.RTPCodecParameters{PayloadType: pt, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/H264", SDPFmtpLine: "packetization-mode=1;profile-level-id=" + profile}}
	}
	rtx := webrtc.RTPCodecParameters{PayloadType: 9, RTPCodecCapability: webrtc.RTPCodecCapability{MimeType: "video/rtx", SDPFmtpLine: "apt=1"}}
	for name, tt := range map[string]struct {
		from []webrtc.RTPCodecParameters
		want webrtc.PayloadType
	}{
		"baseline last": {[]webrtc.RTPCodecParameters{rtx, h264(1, "64001f"), h264(2, "42E01F")}, 2},
		"no baseline":   {[]webrtc.RTPCodecParameters{h264(1, "64001f"), h264(2, "4d001f")}, 1},
		"two of them":   {[]webrtc.RTPCodecParameters{h264(1, "42e01f"), h264(2, "42e034")}, 1},
	} {
		if got, ok := chooseFormat("video/h264", tt.from); !ok || got.PayloadType != tt.want {
			t.Errorf("%s: got %d, %v; want %d", name, got.PayloadType, ok, tt.want)
		}
	}
	if _, ok := chooseFormat("video/av1", []webrtc.RTPCodecParameters{rtx, h264(1, "42e01f")}); ok {
		t.Error("AV1 was found in H.264")
	}
}

func TestNothingIsSentBeforeNegotiation(t *testing.T) {
	tr, err := NewTrack(media.H264)
	if err != nil {
		t.Fatal(err)
	}
	u := sampleUnit(media.H264, 100)
	if err := tr.Send(t.Context(), &u); err != nil {
		t.Error(err)
	}
	if _, ok := tr.Report(media.Now()); ok {
		t.Error("a report of nothing")
	}
	if _, err := NewTrack("mjpeg"); err == nil {
		t.Error("a track of an unknown codec")
	}
}

func TestVideoTimeIsAStraightLine(t *testing.T) {
	var c videoClock
	c.offset = 0xFFFF_FF00 // wraps around soon
	base := media.Stamp(5 * time.Hour)
	for i := range 1000 {
		at := base.Add(time.Duration(i) * 16_666_667)
		if got, want := c.next(at)-c.at(base), uint32(int64(i)*16_666_667*9/100_000); got-want > 1 && want-got > 1 {
			t.Fatalf("frame %d: %d, want %d", i, got, want)
		}
	}
	// Two frames of one moment differ, and time never goes back.
	a := c.next(base.Add(20 * time.Second))
	if b := c.next(base.Add(20 * time.Second)); b != a+1 {
		t.Errorf("%d after %d", b, a)
	}
	if b := c.next(base.Add(19 * time.Second)); b != a+2 {
		t.Errorf("%d after %d", b, a+1)
	}
}

func TestSoundTimeIsExactAndFollowsGaps(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var c audioClock
	c.due = 77
	at, frame := media.Stamp(time.Hour), uint32(5)
	ts := c.next(at, frame, 480)
	if ts != 77 {
		t.Fatalf("begins at %d", ts)
	}
	step := func(by time.Duration, frames uint32, want uint32) {
		t.Helper()
		at, frame = at.Add(by), frame+frames
		got := c.next(at, frame, 480)
		if got-ts != want {
			t.Fatalf("timestamp advanced by %d, want %d", got-ts, want)
		}
		ts = got
	}
	// A sound card that runs 200 ppm fast for half an hour, with jitter.
	card := at
	for range 180_000 {
		card = card.Add(10*time.Millisecond - 2*time.Microsecond)
		jittery := card.Add(time.Duration(rnd.IntN(8)) * time.Millisecond)
		step(jittery.Sub(at), 1, 480)
	}
	// The line between RTP time and capture time has followed the drift of 360 ms.
	if off := int32(c.at(at) - ts); off < -480 || off > 480 {
		t.Errorf("the clock stands %d samples from the last packet", off)
	}
	step(10*time.Millisecond, 1, 480)
	step(110*time.Millisecond, 1, 480+4800) // the sound server slept for 100 ms
	step(30*time.Millisecond, 3, 3*480)     // two packets were lost on the way here
	at, frame = at.Add(5*time.Second), 0    // a new worker counts from 0
	if got := c.next(at, frame, 480); got-ts != 5*48000 {
		t.Errorf("after a new worker: advanced by %d, want %d", got-ts, 5*48000)
	}
}

func TestOpusDurations(t *testing.T) {
	for _, tt := range []struct {
		p    []byte
		want uint32
	}{
		{nil, 0}, {[]byte{0x00}, 480}, {[]byte{0x08}, 960}, {[]byte{0x18}, 2880}, {[]byte{0x60}, 480}, {[]byte{0x68}, 960},
		{[]byte{0x80}, 120}, {[]byte{0xE0}, 120}, {[]byte{0xE8}, 240}, {[]byte{0xF0}, 480}, {[]byte{0xF8}, 960}, {[]byte{0xF1}, 960}, {[]byte{0xF2}, 960},
		{[]byte{0xF3}, 0}, {[]byte{0xF3, 0x03}, 1440}, {[]byte{0xF3, 0x80 | 2}, 960},
	} {
		if got := opusSamples(tt.p); got != tt.want {
			t.Errorf("%x: %d samples, want %d", tt.p, got, tt.want)
		}
	}
}

// FuzzPacketize: no unit makes the packetisers panic, and what they accept can be
// put together again.
func FuzzPacketize(f *testing.F) {
	all := []media.Codec{media.H264, media.H265, media.AV1, media.VP8, media.VP9}
	for i, codec := range all {
		for _, n := range []int{3, 1149, 3000} {
			f.Add(byte(i), sampleUnit(codec, n).Data, true)
		}
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte, key bool) {
		codec := all[int(which)%len(all)]
		u := media.Unit{Kind: media.Video, Codec: codec, Key: key, Width: 640, Height: 360, Data: data, Stages: media.Stages{Captured: 1}}
		var out []*rtp.Packet
		tr := newBound(t, codec, func(h *rtp.Header, p []byte) (int, error) {
			if len(p) == 0 || len(p) > payloadMTU {
				t.Fatalf("payload of %d bytes", len(p))
			}
			out = append(out, &rtp.Packet{Header: h.Clone(), Payload: slices.Clone(p)})
			return 0, nil
		})
		if err := tr.Send(t.Context(), &u); err != nil {
			if !errors.Is(err, ErrUnit) {
				t.Fatal(err)
			}
			return
		}
		switch codec {
		case media.AV1, media.H265:
			return // pion reads some forms of them differently
		case media.H264:
			for n := range nalUnits(data) {
				if kind := n0(n) & 0x1F; kind == 0 || kind > 23 || n0(n)&0x80 != 0 {
					return // these numbers mean packets; and pion drops the forbidden bit
				}
			}
		}
		got, err := reassemble(codec, out)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, wanted(u)) {
			t.Fatalf("%s: %x came out as %x", codec, wanted(u), got)
		}
	})
}

func n0(b []byte) byte {
	if len(b) == 0 {
		return 1
	}
	return b[0]
}
