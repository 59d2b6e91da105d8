package signaling

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"testing"

	"fenrir/media"
)

type vector struct {
	Plaintext string `json:"plaintext"`
	Parsed    string `json:"parsed"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	b, err := os.ReadFile("testdata/moonlight-control.json")
	if err != nil {
		t.Fatal(err)
	}
	var v struct{ Messages []vector }
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v.Messages
}

// What a real Moonlight client sent, and what it means.
func TestPacketsOfARealClientAreUnderstood(t *testing.T) {
	want := map[string]media.Input{
		"('mouse_rel', 1, 1)":                                      {Kind: media.PointerDelta, DX: 1, DY: 1},
		"('mouse_rel', -1, -1)":                                    {Kind: media.PointerDelta, DX: -1, DY: -1},
		"('mouse_abs', 640, 360, 0, 1279, 719)":                    {Kind: media.PointerMove, X: 640, Y: 360, W: 1279, H: 719},
		"('mouse_down', 1)":                                        {Kind: media.ButtonDown, Button: media.ButtonLeft},
		"('mouse_up', 1)":                                          {Kind: media.ButtonUp, Button: media.ButtonLeft},
		"('scroll', 120, 120, 0)":                                  {Kind: media.ScrollV, DY: 120},
		"('hscroll', -120)":                                        {Kind: media.ScrollH, DX: -120},
		"('key_down', 0, 32833, 0, 0)":                             {Kind: media.KeyDown, Key: 0x41},
		"('key_up', 0, 32833, 0, 0)":                               {Kind: media.KeyUp, Key: 0x41},
		"('key_down', 0, 32928, 1, 0)":                             {Kind: media.KeyDown, Key: 0xA0, Modifiers: media.ModShift},
		"('key_up', 0, 32834, 1, 0)":                               {Kind: media.KeyUp, Key: 0x42, Modifiers: media.ModShift},
		"('text', 'h')":                                            {Kind: media.Text, Text: "h"},
		"('text', 'é')":                                            {Kind: media.Text, Text: "é"},
		"('arrival', 0, 2, 255, 3211263)":                          {Kind: media.PadArrival, Pad: media.Pad{Type: 2, Caps: 255, Buttons: 3211263}},
		"('multi', 26, 0, 1, 20, 0, 0, 0, 0, 0, 0, 0, 156, 0, 85)": {Kind: media.PadState, Pad: media.Pad{ActiveMask: 1}},
		"('multi', 26, 0, 1, 20, 4096, 255, 128, 32767, -32768, 100, -100, 156, 0, 85)": {Kind: media.PadState, Pad: media.Pad{ActiveMask: 1, Buttons: 0x1000, LT: 255, RT: 128, LX: 32767, LY: -32768, RX: 100, RY: -100}},
		"('battery', 0, 2, 80, 0)":                                                                                      {Kind: media.PadBattery, Pad: media.Pad{Battery: 2, Percent: 80}},
		"('motion', 0, 1, 0, 0.5, 9.800000190734863, -0.25)":                                                            {Kind: media.PadMotion, Pad: media.Pad{Motion: 1, Vector: [3]float32{0.5, 9.8, -0.25}}},
		"('ctouch', 0, 1, 0, 0, 7, 0.25, 0.75, 1.0)":                                                                    {Kind: media.PadTouch, Contact: media.Contact{Event: 1, ID: 7, X: 0.25, Y: 0.75, Pressure: 1}},
		"('ctouch', 0, 2, 0, 0, 7, 0.25, 0.75, 0.0)":                                                                    {Kind: media.PadTouch, Contact: media.Contact{Event: 2, ID: 7, X: 0.25, Y: 0.75}},
		"('touch', 1, 0, 0, 3, 0.5, 0.5, 0.800000011920929, 0.009999999776482582, 0.009999999776482582)":                {Kind: media.Touch, Contact: media.Contact{Event: 1, ID: 3, X: 0.5, Y: 0.5, Pressure: 0.8, Major: 0.01, Minor: 0.01}},
		"('touch', 3, 0, 0, 3, 0.6000000238418579, 0.5, 0.800000011920929, 0.009999999776482582, 0.009999999776482582)": {Kind: media.Touch, Contact: media.Contact{Event: 3, ID: 3, X: 0.6, Y: 0.5, Pressure: 0.8, Major: 0.01, Minor: 0.01}},
		"('pen', 1, 1, 1, 0, 0.20000000298023224, 0.30000001192092896, 0.699999988079071, 45, 30, 0, 0.0, 0.0)":         {Kind: media.Pen, Contact: media.Contact{Event: 1, Tool: 1, Buttons: 1, X: 0.2, Y: 0.3, Pressure: 0.7, Rotation: 45, Tilt: 30}},
		"('pen', 2, 1, 0, 0, 0.20000000298023224, 0.30000001192092896, 0.0, 45, 30, 0, 0.0, 0.0)":                       {Kind: media.Pen, Contact: media.Contact{Event: 2, Tool: 1, X: 0.2, Y: 0.3, Rotation: 45, Tilt: 30}},
	}
	seen := 0
	for _, v := range vectors(t) {
		b, err := hex.DecodeString(v.Plaintext)
		if err != nil {
			t.Fatal(err)
		}
		c, rest, err := DecodeControl(b)
		if err != nil || len(rest) != 0 {
			t.Errorf("%s: %v, %d bytes left", v.Plaintext, err, len(rest))
			continue
		}
		if v.Parsed == "" {
			if c.Type == ControlInput {
				t.Errorf("%s: an input that nobody explained", v.Plaintext)
			}
			continue
		}
		got, err := DecodeInput(c.Payload)
		if v.Parsed == "('haptics', 1)" {
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("haptics: %v, want ErrUnknown", err)
			}
			continue
		}
		w, known := want[v.Parsed]
		if !known {
			t.Errorf("no expectation for %s", v.Parsed)
			continue
		}
		seen++
		if err != nil || got != w {
			t.Errorf("%s: got %+v, %v; want %+v", v.Parsed, got, err, w)
			continue
		}
		// What we write for it is what the client wrote, byte for byte; only the
		// wheel's last word is an exception that the client fills differently.
		out, err := AppendInput(nil, got)
		if err != nil {
			t.Errorf("%s: encode: %v", v.Parsed, err)
		} else if !bytes.Equal(out, b) {
			t.Errorf("%s: encoded\n%x, the client sent\n%x", v.Parsed, out, b)
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d expectations met a packet", seen, len(want))
	}
}

func TestInputsOutOfRangeAreRefused(t *testing.T) {
	packet := func(m magic, body ...byte) []byte {
		b := be.AppendUint32(nil, uint32(4+len(body)))
		return append(le.AppendUint32(b, uint32(m)), body...)
	}
	nan := le.AppendUint32(nil, math.Float32bits(float32(math.NaN())))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tests := []struct {
		name string
		in   []byte
		want error
	}{
		{"nothing", nil, ErrShort},
		{"no magic", []byte{0, 0, 0, 4, 3}, ErrShort},
		{"size below the magic", []byte{0, 0, 0, 3, 3, 0, 0, 0}, ErrRange},
		{"size beyond the packet", []byte{0, 0, 0, 9, 8, 0, 0, 0, 1}, ErrShort},
		{"size of four billion", []byte{255, 255, 255, 255, 8, 0, 0, 0, 1}, ErrShort},
		{"unknown magic", packet(0x99, 1, 2, 3), ErrUnknown},
		{"key 0", packet(magicKeyDown, 0, 0, 0x80, 0), ErrRange},
		{"key 255", packet(magicKeyUp, 0, 0xFF, 0x80, 0), ErrRange},
		{"short key", packet(magicKeyDown, 0, 0x41, 0x80), ErrShort},
		{"button 0", packet(magicButtonDown, 0), ErrRange},
		{"button 6", packet(magicButtonUp, 6), ErrRange},
		{"absolute without size", packet(magicAbsolute, 0, 1, 0, 1, 0, 0, 0, 0, 0, 9), ErrRange},
		{"absolute with negative size", packet(magicAbsolute, 0, 1, 0, 1, 0, 0, 0, 9, 0x80, 0), ErrRange},
		{"empty text", packet(magicText), ErrShort},
		{"text of 33 bytes", packet(magicText, bytes.Repeat([]byte{'a'}, 33)...), ErrRange},
		{"text that is no UTF-8", packet(magicText, 0xC3), ErrRange},
		{"touch event 8", packet(magicTouch, append([]byte{8}, make([]byte, 27)...)...), ErrRange},
		{"touch at NaN", packet(magicTouch, join(make([]byte, 8), nan, make([]byte, 16))...), ErrRange},
		{"pen tool 3", packet(magicPen, append([]byte{1, 3}, make([]byte, 26)...)...), ErrRange},
		{"pen tilt 91", packet(magicPen, join(make([]byte, 18), []byte{91}, make([]byte, 9))...), ErrRange},
		{"pad 16 arrives", packet(magicPadArrival, 16, 1, 0, 0, 0, 0, 0, 0), ErrRange},
		{"pad of type 5", packet(magicPadArrival, 0, 5, 0, 0, 0, 0, 0, 0), ErrRange},
		{"state of pad 256", packet(magicPadState, append([]byte{0x1A, 0, 0, 1}, make([]byte, 22)...)...), ErrRange},
		{"motion of kind 3", packet(magicPadMotion, append([]byte{0, 3}, make([]byte, 14)...)...), ErrRange},
		{"motion of NaN", packet(magicPadMotion, join([]byte{0, 1, 0, 0}, nan, make([]byte, 8))...), ErrRange},
		{"battery at 101 %", packet(magicPadBattery, 0, 1, 101, 0), ErrRange},
		{"battery state 6", packet(magicPadBattery, 0, 6, 50, 0), ErrRange},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if in, err := DecodeInput(tt.in); !errors.Is(err, tt.want) {
				t.Errorf("got %+v, %v; want %v", in, err, tt.want)
			}
		})
	}
}

func TestPositionsOutsideOfThePictureAreClamped(t *testing.T) {
	for _, tt := range []struct{ x, y, wantX, wantY int }{
		{-5, 10, 0, 10}, {4000, 10, 1279, 10}, {5, -32768, 5, 0}, {1279, 719, 1279, 719}, {3, 720, 3, 719},
	} {
		b := le.AppendUint32(be.AppendUint32(nil, 14), uint32(magicAbsolute))
		for _, v := range []int{tt.x, tt.y, 0, 1279, 719} {
			b = be.AppendUint16(b, uint16(v))
		}
		in, err := DecodeInput(b)
		if err != nil || in.X != tt.wantX || in.Y != tt.wantY {
			t.Errorf("%d,%d: got %d,%d, %v; want %d,%d", tt.x, tt.y, in.X, in.Y, err, tt.wantX, tt.wantY)
		}
	}
}

func TestLongerBodiesAreAccepted(t *testing.T) {
	b := append(le.AppendUint32(be.AppendUint32(nil, 4+1+7), uint32(magicButtonDown)), 2, 9, 9, 9, 9, 9, 9, 9)
	in, err := DecodeInput(b)
	if err != nil || in.Button != 2 {
		t.Errorf("got %+v, %v", in, err)
	}
}

func TestInputsThatDoNotFitAreNotEncoded(t *testing.T) {
	for name, in := range map[string]media.Input{
		"key 300":               {Kind: media.KeyDown, Key: 300},
		"modifier 0x10":         {Kind: media.KeyDown, Key: 65, Modifiers: 0x10},
		"delta of 40000":        {Kind: media.PointerDelta, DX: 40000},
		"position right of W":   {Kind: media.PointerMove, X: 11, W: 10, H: 10},
		"no text":               {Kind: media.Text},
		"text of 40 bytes":      {Kind: media.Text, Text: "0123456789012345678901234567890123456789"},
		"a touch beyond 1":      {Kind: media.Touch, Contact: media.Contact{X: 1.5}},
		"a field of other kind": {Kind: media.ButtonDown, Button: 1, Key: 65},
		"no kind":               {},
	} {
		dst := []byte("kept")
		if out, err := AppendInput(dst, in); err == nil || string(out) != "kept" {
			t.Errorf("%s: got %q, %v", name, out, err)
		}
	}
}

func TestControlPackets(t *testing.T) {
	ping := Ping{Seq: 7, ClientMs: 1234.5}
	c, rest, err := DecodeControl(AppendPing(nil, ping))
	if err != nil || len(rest) != 0 || c.Type != ControlPing {
		t.Fatal(c, rest, err)
	}
	if got, err := DecodePing(c.Payload); err != nil || got != ping {
		t.Errorf("ping: %+v, %v", got, err)
	}
	if _, err := DecodePing([]byte{4, 0, 0, 0, 0, 0, 0, 0}); !errors.Is(err, ErrShort) {
		t.Errorf("Moonlight's ping: %v, want ErrShort", err)
	}
	if _, err := DecodePing(AppendPing(nil, Ping{ClientMs: math.Inf(1)})[4:]); !errors.Is(err, ErrRange) {
		t.Errorf("infinite ping: %v, want ErrRange", err)
	}
	pong := Pong{Seq: 7, ClientMs: 1234.5, ServerNs: 1 << 60}
	if got, err := DecodePong(AppendPong(nil, pong)[4:]); err != nil || got != pong {
		t.Errorf("pong: %+v, %v", got, err)
	}
	for _, r := range []Rumble{{Pad: 1, Low: 2, High: 65535}, {Pad: 3, Low: 4, High: 5, Trigger: true}} {
		c, _, err := DecodeControl(AppendRumble(nil, r))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := DecodeRumble(c); err != nil || got != r {
			t.Errorf("rumble: %+v, %v; want %+v", got, err, r)
		}
	}
	// 11.3: the reason is big-endian.
	if got := hex.EncodeToString(AppendTermination(nil, TerminationNormal)); got != "0901040080030023" {
		t.Errorf("termination: %s", got)
	}
	if got, err := DecodeTermination(AppendTermination(nil, 0x800e9302)[4:]); err != nil || got != 0x800e9302 {
		t.Errorf("termination: %#x, %v", got, err)
	}
	if _, _, err := DecodeControl([]byte{6, 2, 1}); !errors.Is(err, ErrShort) {
		t.Errorf("short header: %v", err)
	}
	if _, _, err := DecodeControl([]byte{6, 2, 5, 0, 1}); !errors.Is(err, ErrShort) {
		t.Errorf("short payload: %v", err)
	}
	if _, _, err := DecodeControl(append([]byte{6, 2, 0, 0x80}, make([]byte, 0x8000)...)); !errors.Is(err, ErrRange) {
		t.Errorf("32 KiB payload: %v", err)
	}
	b, err := AppendInput(nil, media.Input{Kind: media.ReleaseAll})
	if c, _, derr := DecodeControl(b); err != nil || derr != nil || c.Type != ControlReleaseAll || len(c.Payload) != 0 {
		t.Errorf("release all: %v %v %v", c, err, derr)
	}
}

func TestMotionSurvivesThreeLostMessagesInARow(t *testing.T) {
	const total = 5000
	rnd := rand.New(rand.NewPCG(1, 2))
	var messages [][]byte
	var history []media.Input
	sum := 0
	for i := range total {
		dx := rnd.IntN(21) - 10
		sum += dx
		history = append(history, media.Input{Kind: media.PointerDelta, DX: dx, DY: i % 7})
		m := Motion{Seq: 0xFFFF_F000 + uint32(i)} // wraps around on the way
		for _, in := range history[max(0, len(history)-MaxMotionPackets):] {
			m.Move[m.N] = in
			m.N++
		}
		b, err := AppendMotion(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, b)
	}
	// Lose up to three in a row, swap neighbours, repeat some.
	var arrived [][]byte
	lost := 0
	for i := 0; i < total; i++ {
		if i > 0 && i < total-1 && lost < 3 && rnd.IntN(2) == 0 {
			lost++
			continue
		}
		lost = 0
		arrived = append(arrived, messages[i])
		if rnd.IntN(5) == 0 {
			arrived = append(arrived, messages[i])
		}
	}
	for i := 0; i+1 < len(arrived); i += 9 {
		// Only neighbours that followed each other directly: what overtakes
		// brings its elders along.
		arrived[i], arrived[i+1] = arrived[i+1], arrived[i]
	}
	var seq MotionSequence
	var got []media.Input
	for _, b := range arrived {
		m, err := DecodeMotion(b)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, seq.Fresh(&m)...)
	}
	have := 0
	for _, in := range got {
		have += in.DX
	}
	// Swapping may have made a gap of more than three; nothing is ever applied twice.
	if len(got)+int(seq.Lost) != total {
		t.Errorf("%d applied and %d lost of %d", len(got), seq.Lost, total)
	}
	if seq.Lost == 0 && have != sum {
		t.Errorf("moved %d in all, want %d", have, sum)
	}

	// Without swaps nothing is lost at all.
	seq = MotionSequence{}
	have = 0
	for i, b := range messages {
		if i%4 != 3 && i != total-1 {
			continue // three of four are lost
		}
		m, err := DecodeMotion(b)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range seq.Fresh(&m) {
			have += in.DX
		}
	}
	if seq.Lost != 0 || have != sum {
		t.Errorf("moved %d with %d lost, want %d and none", have, seq.Lost, sum)
	}
}

func TestMotionTakesPointerMovementOnly(t *testing.T) {
	key, err := AppendInput(nil, media.Input{Kind: media.KeyDown, Key: 65})
	if err != nil {
		t.Fatal(err)
	}
	move, err := AppendInput(nil, media.Input{Kind: media.PointerDelta, DX: 1})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":      {nil, ErrShort},
		"no packets":   {[]byte{1, 0, 0, 0}, ErrShort},
		"a key":        {append([]byte{1, 0, 0, 0}, key...), ErrRange},
		"a ping":       {AppendPing([]byte{1, 0, 0, 0}, Ping{}), ErrRange},
		"five packets": {append([]byte{1, 0, 0, 0}, bytes.Repeat(move, 5)...), ErrRange},
		"half a one":   {append([]byte{1, 0, 0, 0}, move[:9]...), ErrShort},
	} {
		if _, err := DecodeMotion(tt.b); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
}

func TestCursorPosition(t *testing.T) {
	p := CursorPosition{Seq: 1 << 31, X: 3839, Y: 2159}
	if got, err := DecodeCursorPosition(AppendCursorPosition(nil, p)); err != nil || got != p {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := DecodeCursorPosition(make([]byte, 7)); !errors.Is(err, ErrShort) {
		t.Errorf("short: %v", err)
	}
}

// FuzzInput: decoding never panics, and whatever was decoded is decoded again
// from what is encoded for it.
func FuzzInput(f *testing.F) {
	for _, v := range vectors(f) {
		b, err := hex.DecodeString(v.Plaintext)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 0 {
			c, rest, err := DecodeControl(b)
			if err != nil {
				return
			}
			b = rest
			_, _ = DecodePing(c.Payload)
			_, _ = DecodePong(c.Payload)
			_, _ = DecodeRumble(c)
			_, _ = DecodeTermination(c.Payload)
			in, err := DecodeInput(c.Payload)
			if err != nil {
				continue
			}
			out, err := AppendInput(nil, in)
			if err != nil {
				t.Fatalf("%+v was decoded but cannot be encoded: %v", in, err)
			}
			again, _, err := DecodeControl(out)
			if err != nil {
				t.Fatal(err)
			}
			back, err := DecodeInput(again.Payload)
			if err != nil || back != in {
				t.Fatalf("%+v came back as %+v, %v", in, back, err)
			}
		}
	})
}

// FuzzMotion does the same for messages of the channel `motion`.
func FuzzMotion(f *testing.F) {
	for n := 1; n <= MaxMotionPackets; n++ {
		m := Motion{Seq: uint32(n), N: n}
		for i := range n {
			m.Move[i] = media.Input{Kind: media.PointerDelta, DX: i, DY: -i}
		}
		b, err := AppendMotion(nil, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = DecodeCursorPosition(b)
		m, err := DecodeMotion(b)
		if err != nil {
			return
		}
		out, err := AppendMotion(nil, m)
		if err != nil {
			t.Fatalf("%+v was decoded but cannot be encoded: %v", m, err)
		}
		back, err := DecodeMotion(out)
		if err != nil || back != m {
			t.Fatalf("%+v came back as %+v, %v", m, back, err)
		}
		var s MotionSequence
		if got := s.Fresh(&m); len(got) != m.N {
			t.Fatalf("%d of %d packets of a first message", len(got), m.N)
		}
		if got := s.Fresh(&m); len(got) != 0 {
			t.Fatalf("%d packets applied twice", len(got))
		}
	})
}
