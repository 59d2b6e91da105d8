package input

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
	"fenrir/media/input/keysym"
	"fenrir/media/screen/screentest"
	"fenrir/media/x11"

	"github.com/jezek/xgb/xproto"
)

// usBoard names keys of a US board by the keysym that each types there. Keys
// that X gives no name, or another, are left out.
var usBoard = map[uint16]string{
	0x08: "BackSpace", 0x09: "Tab", 0x0d: "Return", VKKeypadEnter: "KP_Enter", 0x13: "Pause", 0x14: "Caps_Lock",
	0x1b: "Escape", 0x20: "space", 0x21: "Prior", 0x22: "Next", 0x23: "End", 0x24: "Home", 0x25: "Left", 0x26: "Up",
	0x27: "Right", 0x28: "Down", 0x2c: "Print", 0x2d: "Insert", 0x2e: "Delete", 0x2f: "Help",
	'0': "0", '1': "1", '2': "2", '3': "3", '4': "4", '5': "5", '6': "6", '7': "7", '8': "8", '9': "9",
	'A': "a", 'B': "b", 'C': "c", 'D': "d", 'E': "e", 'F': "f", 'G': "g", 'H': "h", 'I': "i", 'J': "j", 'K': "k",
	'L': "l", 'M': "m", 'N': "n", 'O': "o", 'P': "p", 'Q': "q", 'R': "r", 'S': "s", 'T': "t", 'U': "u", 'V': "v",
	'W': "w", 'X': "x", 'Y': "y", 'Z': "z",
	0x5b: "Super_L", 0x5c: "Super_R", 0x5d: "Menu", 0x5f: "XF86Sleep",
	0x60: "KP_Insert", 0x61: "KP_End", 0x62: "KP_Down", 0x63: "KP_Next", 0x64: "KP_Left", 0x65: "KP_Begin",
	0x66: "KP_Right", 0x67: "KP_Home", 0x68: "KP_Up", 0x69: "KP_Prior", 0x6a: "KP_Multiply", 0x6b: "KP_Add",
	0x6d: "KP_Subtract", 0x6e: "KP_Delete", 0x6f: "KP_Divide", 0x92: "KP_Equal",
	0x70: "F1", 0x71: "F2", 0x72: "F3", 0x73: "F4", 0x74: "F5", 0x75: "F6", 0x76: "F7", 0x77: "F8", 0x78: "F9",
	0x79: "F10", 0x7a: "F11", 0x7b: "F12", 0x7c: "XF86Tools", 0x7d: "XF86Launch5",
	0x90: "Num_Lock", 0x91: "Scroll_Lock", 0xa0: "Shift_L", 0xa1: "Shift_R", 0xa2: "Control_L", 0xa3: "Control_R",
	0xa4: "Alt_L", 0xa5: "Alt_R", 0xa6: "XF86Back", 0xa7: "XF86Forward", 0xa8: "XF86Reload", 0xaa: "XF86Search",
	0xab: "XF86Favorites", 0xac: "XF86HomePage", 0xad: "XF86AudioMute", 0xae: "XF86AudioLowerVolume",
	0xaf: "XF86AudioRaiseVolume", 0xb0: "XF86AudioNext", 0xb1: "XF86AudioPrev", 0xb2: "XF86AudioStop",
	0xb3: "XF86AudioPlay", 0xb4: "XF86Mail", 0xb5: "XF86AudioMedia", 0xb6: "XF86MyComputer", 0xb7: "XF86Calculator",
	0xba: "semicolon", 0xbb: "equal", 0xbc: "comma", 0xbd: "minus", 0xbe: "period", 0xbf: "slash", 0xc0: "grave",
	0xdb: "bracketleft", 0xdc: "backslash", 0xdd: "bracketright", 0xde: "apostrophe", 0xe2: "less",
	0x15: "Hangul", 0x19: "Hangul_Hanja", 0x1c: "Henkan_Mode", 0x1d: "Muhenkan", 0xf1: "Katakana", 0xf2: "Hiragana_Katakana",
}

func TestEveryKeyIsTheKeyOfItsPosition(t *testing.T) {
	in, o, _, _, dev, _ := bench(t, 640, 360)
	seen := map[byte]uint16{}
	for vk := uint16(0); vk < 256; vk++ {
		code := Keycode(vk)
		if code == 0 {
			continue
		}
		in <- media.Input{Kind: media.KeyDown, Key: vk}
		down := o.next()
		in <- media.Input{Kind: media.KeyUp, Key: vk}
		up := o.next()
		if got, want := describe(down)+describe(up), fmt.Sprintf("+%d-%d", code, code); got != want {
			t.Errorf("VK %#02x: got %s, want %s", vk, got, want)
			continue
		}
		if want, ok := usBoard[vk]; ok {
			if got := o.keys.at(down.(xproto.KeyPressEvent).Detail, 0).Name(); got != want {
				t.Errorf("VK %#02x is %s on a US board, want %s", vk, got, want)
			}
			seen[code] = vk
		}
	}
	for vk := range usBoard {
		if Keycode(vk) == 0 {
			t.Errorf("VK %#02x has no key", vk)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d keys were seen", len(seen))
	}
	before := dev.Counts().Unknown
	in <- media.Input{Kind: media.KeyDown, Key: 0xff}
	in <- media.Input{Kind: media.KeyUp, Key: 0x1234}
	in <- media.Input{Kind: media.ButtonDown, Button: 77}
	in <- media.Input{Kind: media.KeyDown, Key: 'A'}
	if got := describe(o.next()); got != "+38" {
		t.Errorf("got %s after unknown keys, want +38", got)
	}
	if got := dev.Counts().Unknown - before; got != 3 {
		t.Errorf("%d unknown keys were counted, want 3", got)
	}
}

func TestKeysOfALayout(t *testing.T) {
	in, o, d, _, dev, _ := bench(t, 640, 360)
	if err := dev.SetLayout(t.Context(), d, "de"); err != nil {
		t.Fatal(err)
	}
	press := func(vk uint16) keysym.Sym {
		t.Helper()
		in <- media.Input{Kind: media.KeyDown, Key: vk}
		ev := o.next().(xproto.KeyPressEvent)
		in <- media.Input{Kind: media.KeyUp, Key: vk}
		o.next()
		return o.typed(ev)
	}
	for vk, want := range map[uint16]string{'Y': "z", 0xde: "adiaeresis", 0xba: "odiaeresis", 0xbd: "ssharp", 0xbb: "dead_acute"} {
		if got := press(vk).Name(); got != want {
			t.Errorf("VK %#x types %s, want %s", vk, got, want)
		}
	}
	in <- media.Input{Kind: media.KeyDown, Key: 0xa5}
	o.next()
	if got := press('E').Name(); got != "EuroSign" {
		t.Errorf("AltGr+E types %s, want EuroSign", got)
	}
	in <- media.Input{Kind: media.KeyUp, Key: 0xa5}
	o.next()
	if err := dev.SetLayout(t.Context(), d, "de(nodeadkeys)"); err != nil {
		t.Fatal(err)
	}
	if got := press(0xbb).Name(); got != "acute" {
		t.Errorf("VK 0xbb types %s without dead keys, want acute", got)
	}
}

func TestNumLockIsOnWithoutAKeyPress(t *testing.T) {
	in, o, d, _, dev, _ := bench(t, 640, 360)
	o.quiet()
	digit := func() bool {
		t.Helper()
		in <- media.Input{Kind: media.KeyDown, Key: 0x67}
		ev := o.next().(xproto.KeyPressEvent)
		in <- media.Input{Kind: media.KeyUp, Key: 0x67}
		o.next()
		return ev.State&o.keys.numMask != 0
	}
	if !digit() {
		t.Error("Num Lock is off")
	}
	if err := dev.SetLayout(t.Context(), d, "de"); err != nil {
		t.Fatal(err)
	}
	if !digit() {
		t.Error("Num Lock is off after another layout")
	}
	for _, kind := range []media.InputKind{media.KeyDown, media.KeyUp} { // the player's own Num Lock
		in <- media.Input{Kind: kind, Key: 0x90}
		o.next()
	}
	if digit() {
		t.Error("Num Lock does not go off")
	}
}

func TestLayoutsThatAreNone(t *testing.T) {
	d, server := screentest.Xvfb(t, 640, 360)
	dev := &Devices{Log: quietLog()}
	for _, name := range []string{"", "xx", "de(nothing)", "de -print", "de;true", "-option", strings.Repeat("d", 99)} {
		if err := dev.SetLayout(t.Context(), d, name); !errors.Is(err, ErrLayout) {
			t.Errorf("SetLayout(%q): %v, want ErrLayout", name, err)
		}
	}
	cookieOnly := d
	cookieOnly.Authority = ""
	if err := dev.SetLayout(t.Context(), cookieOnly, "fr"); err != nil {
		t.Errorf("with the cookie only: %v", err)
	}
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := dev.SetLayout(t.Context(), d, "us"); err == nil {
		t.Error("SetLayout on a hung server succeeded")
	}
	if took := time.Since(began); took > LayoutBound+time.Second {
		t.Errorf("SetLayout on a hung server took %v", took)
	}
}

// read types nothing itself: it takes the characters of the next n key presses
// that are no modifiers.
func (o *observer) read(n int) string {
	o.t.Helper()
	var b strings.Builder
	for n > 0 {
		ev, ok := o.next().(xproto.KeyPressEvent)
		if !ok {
			continue
		}
		if r, ok := o.typed(ev).Rune(); ok {
			b.WriteRune(r)
			n--
		}
	}
	return b.String()
}

func TestTextIsTyped(t *testing.T) {
	const text = "Hello, ä€ß漢🙂É→ñ~@Ж"
	for _, layout := range []string{"us", "de", "fr", "ru"} {
		t.Run(layout, func(t *testing.T) {
			in, o, d, _, dev, _ := bench(t, 640, 360)
			if err := dev.SetLayout(t.Context(), d, layout); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				in <- media.Input{Kind: media.Text, Text: text}
				if got := o.read(len([]rune(text))); got != text {
					t.Errorf("got %q, want %q", got, text)
				}
			}
			o.settled(in)
			if mask, keys := o.state(); len(keys) > 0 || mask&^o.keys.numMask != 0 {
				t.Errorf("left pressed: modifiers %#x, keys %v", mask, keys)
			}
			if c := dev.Counts(); c.Untyped > 0 {
				t.Errorf("%d characters were not typed", c.Untyped)
			}
		})
	}
}

func TestTextNextToHeldKeysAndLocks(t *testing.T) {
	const text = "aBé€ß漢"
	in, o, d, _, dev, _ := bench(t, 640, 360)
	if err := dev.SetLayout(t.Context(), d, "de"); err != nil {
		t.Fatal(err)
	}
	for name, hold := range map[string][]uint16{
		"a letter that is typed": {'A', 'W'}, "Shift": {0xa0}, "AltGr": {0xa5}, "Ctrl and Alt": {0xa2, 0xa4}, "both Shifts": {0xa1, 0xa0},
	} {
		for _, vk := range hold {
			in <- media.Input{Kind: media.KeyDown, Key: vk}
			o.next()
		}
		_, before := o.state()
		in <- media.Input{Kind: media.Text, Text: text}
		if got := o.read(len([]rune(text))); got != text {
			t.Errorf("%s held: got %q, want %q", name, got, text)
		}
		o.settled(in)
		if _, after := o.state(); !slices.Equal(before, after) {
			t.Errorf("%s held: keys %v before the text, %v after it", name, before, after)
		}
		in <- media.Input{Kind: media.ReleaseAll}
		o.settled(in)
		if mask, keys := o.state(); len(keys) > 0 || mask&^o.keys.numMask != 0 {
			t.Errorf("%s: left after ReleaseAll: %#x %v", name, mask, keys)
		}
	}
	// Caps Lock stays on and changes no text.
	in <- media.Input{Kind: media.KeyDown, Key: 0x14}
	in <- media.Input{Kind: media.KeyUp, Key: 0x14}
	in <- media.Input{Kind: media.Text, Text: text + "Жж"}
	if got := o.read(len([]rune(text)) + 2); got != text+"Жж" {
		t.Errorf("with Caps Lock: got %q, want %q", got, text+"Жж")
	}
}

func TestTextOfMoreCharactersThanSpareKeys(t *testing.T) {
	in, o, _, _, _, _ := bench(t, 640, 360)
	var text []rune
	for i := range 90 {
		text = append(text, rune(0x4e00+i))
	}
	go func() {
		for part := range slices.Chunk(text, 10) {
			in <- media.Input{Kind: media.Text, Text: string(part)}
		}
	}()
	if got := o.read(len(text)); got != string(text) {
		t.Errorf("got %q, want %q", got, string(text))
	}
}

func TestButtonsAndWheels(t *testing.T) {
	in, o, _, _, _, _ := bench(t, 640, 360)
	for b, want := range map[uint8]int{1: 1, 2: 2, 3: 3, 4: 8, 5: 9} {
		in <- media.Input{Kind: media.ButtonDown, Button: b}
		in <- media.Input{Kind: media.ButtonDown, Button: b} // it is down already
		in <- media.Input{Kind: media.ButtonUp, Button: b}
		in <- media.Input{Kind: media.ButtonUp, Button: b}
		if got, want := describe(o.next())+describe(o.next()), fmt.Sprintf("press %drelease %d", want, want); got != want {
			t.Errorf("button %d: got %s, want %s", b, got, want)
		}
	}
	for _, c := range []struct {
		name string
		kind media.InputKind
		turn []int
		want []int // X buttons
	}{
		{"a notch up", media.ScrollV, []int{120}, []int{4}},
		{"a notch down", media.ScrollV, []int{-120}, []int{5}},
		{"right", media.ScrollH, []int{120}, []int{7}},
		{"left", media.ScrollH, []int{-120}, []int{6}},
		{"three at once", media.ScrollV, []int{360}, []int{4, 4, 4}},
		{"in small steps", media.ScrollV, []int{30, 30, 30, 29, 1, 60}, []int{4}},
		{"the rest counts", media.ScrollV, []int{60}, []int{4}},
		{"a change of direction forgets the rest", media.ScrollV, []int{119, -1, -119}, []int{5}},
		{"absurd", media.ScrollV, []int{32767}, slices.Repeat([]int{4}, notchesMax)},
	} {
		for _, d := range c.turn {
			in <- media.Input{Kind: c.kind, DX: d, DY: d}
		}
		var want, got []string
		for _, b := range c.want {
			want = append(want, fmt.Sprintf("press %d", b), fmt.Sprintf("release %d", b))
		}
		for range want {
			got = append(got, describe(o.next()))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", c.name, got, want)
		}
	}
	in <- media.Input{Kind: media.KeyDown, Key: 'A'}
	if got := describe(o.next()); got != "+38" {
		t.Errorf("got %s after the wheels, want +38", got)
	}
}

func TestAbsolutePointerReachesAllCorners(t *testing.T) {
	in, o, d, _, dev, _ := bench(t, 1920, 1080)
	o.conn.X.Sync()
	check := func(width, height int) {
		t.Helper()
		for _, ref := range [][2]int{{width, height}, {width - 1, height - 1}, {4096, 4096}, {640, 360}, {1, 1}} {
			for _, c := range []struct{ x, y, atX, atY int }{
				{0, 0, 0, 0}, {ref[0], 0, width - 1, 0}, {0, ref[1], 0, height - 1}, {ref[0], ref[1], width - 1, height - 1},
			} {
				in <- media.Input{Kind: media.PointerMove, X: ref[0] / 2, Y: ref[1] / 2, W: ref[0], H: ref[1]}
				in <- media.Input{Kind: media.PointerMove, X: c.x, Y: c.y, W: ref[0], H: ref[1]}
				want := fmt.Sprintf("at %d,%d", c.atX, c.atY)
				for got := ""; got != want; {
					got = describe(o.next())
				}
			}
		}
	}
	check(1920, 1080)
	// Where the client counts in the display's pixels, every pixel is reached.
	for _, x := range []int{0, 1, 639, 640, 641, 1278, 1500, 1918, 1919} {
		for _, w := range []int{1919, 1920} {
			if got := scale(x, w, 1920); got != x {
				t.Errorf("pixel %d of %d becomes %d", x, w, got)
			}
		}
	}
	// The display may change its size while the pointer moves.
	for _, size := range [][2]int{{1280, 720}, {640, 360}, {1920, 1080}} {
		moving, still := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; moving.Err() == nil; i++ {
				select {
				case in <- media.Input{Kind: media.PointerMove, X: i % 4096, Y: i % 4096, W: 4096, H: 4096}:
				case <-moving.Done():
				}
				if i%16 == 0 {
					o.drain()
				}
			}
		}()
		err := dev.Resize(t.Context(), d, size[0], size[1])
		still()
		<-done
		if err != nil {
			t.Fatal(err)
		}
		check(size[0], size[1])
	}
}

// drain throws waiting events away.
func (o *observer) drain() {
	for {
		select {
		case <-o.events:
		default:
			return
		}
	}
}

func TestRelativeMotionAddsUp(t *testing.T) {
	in, o, _, _, _, _ := bench(t, 1920, 1080)
	in <- media.Input{Kind: media.PointerMove, X: 960, Y: 540, W: 1920, H: 1080}
	for describe(o.next()) != "at 960,540" {
	}
	x, y := 960, 540
	for i := range 200 {
		dx, dy := i%7-3, i%5-2
		in <- media.Input{Kind: media.PointerDelta, DX: dx, DY: dy}
		x, y = x+dx, y+dy
	}
	in <- media.Input{Kind: media.PointerDelta, DX: 100, DY: -50}
	want := fmt.Sprintf("at %d,%d", x+100, y-50)
	for got := ""; got != want; {
		got = describe(o.next())
	}
}

func TestOrderIsKept(t *testing.T) {
	in, o, _, _, _, _ := bench(t, 640, 360)
	var want []string
	for i := range 50 {
		in <- media.Input{Kind: media.PointerMove, X: 10 + i, Y: 5, W: 640, H: 360}
		in <- media.Input{Kind: media.ButtonDown, Button: 1}
		in <- media.Input{Kind: media.KeyDown, Key: 'W'}
		in <- media.Input{Kind: media.ButtonUp, Button: 1}
		in <- media.Input{Kind: media.KeyUp, Key: 'W'}
		want = append(want, fmt.Sprintf("at %d,5", 10+i), "press 1", "+25", "release 1", "-25")
	}
	for i := range want {
		if got := describe(o.next()); got != want[i] {
			t.Fatalf("event %d: got %s, want %s", i, got, want[i])
		}
	}
	o.quiet()
}

func TestEverythingIsReleasedAtTheEnd(t *testing.T) {
	d, _ := screentest.Xvfb(t, 640, 360)
	o := observe(t, d)
	dev := &Devices{Log: quietLog()}
	ctx, cancel := context.WithCancel(t.Context())
	in, over := make(chan media.Input), make(chan error, 1)
	go func() { over <- dev.Run(ctx, d, in, func(media.Note) {}) }()
	for _, vk := range []uint16{'W', 0xa0, 0xa2} {
		in <- media.Input{Kind: media.KeyDown, Key: vk}
	}
	in <- media.Input{Kind: media.ButtonDown, Button: 3}
	for describe(o.next()) != "press 3" {
	}
	cancel()
	select {
	case err := <-over:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(3 * time.Second):
		t.Fatal("Run did not return within 3 s")
	}
	if mask, keys := o.state(); len(keys) > 0 || mask&^o.keys.numMask != 0 {
		t.Errorf("left pressed: %#x %v", mask, keys)
	}
}

func TestHungServerAndWhatItLeaves(t *testing.T) {
	in, o, d, server, dev, over := bench(t, 640, 360)
	in <- media.Input{Kind: media.KeyDown, Key: 'W'}
	o.next()
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var slowest time.Duration
	sent := 0
	for hung := false; !hung; {
		at := time.Now()
		select {
		case in <- media.Input{Kind: media.PointerMove, X: sent % 640, Y: 1, W: 640, H: 360}:
			slowest = max(slowest, time.Since(at))
			sent++
		case err := <-over:
			if err == nil {
				t.Error("Run returned nil from a hung server")
			}
			t.Logf("%d inputs, slowest %v; over after %v: %v", sent, slowest, time.Since(began), err)
			hung = true
		case <-time.After(10 * time.Second):
			t.Fatal("Run still waits for a hung server after 10 s")
		}
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("Run left the hung server after %v", took)
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if _, keys := o.state(); !slices.Contains(keys, 25) {
		t.Log("W was released by the first Run")
	}
	devicesOn(t, dev, d)
	// The next Run lets go of what the first one held.
	bound := time.After(5 * time.Second)
	for _, keys := o.state(); len(keys) > 0; _, keys = o.state() {
		select {
		case <-bound:
			t.Fatalf("still pressed: %v", keys)
		default:
		}
	}
}

func TestHungServerIsNoticedWithoutInput(t *testing.T) {
	_, _, _, server, _, over := bench(t, 640, 360)
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-over:
		if !errors.Is(err, x11.ErrHung) {
			t.Errorf("Run returned %v, want ErrHung", err)
		}
	case <-time.After(8 * time.Second):
		t.Error("Run still waits for a hung server after 8 s")
	}
}

func TestServerDeathIsAnError(t *testing.T) {
	_, _, _, server, _, over := bench(t, 640, 360)
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-over:
		if err == nil {
			t.Error("Run returned nil after the server died")
		}
	case <-time.After(3 * time.Second):
		t.Error("Run still runs 3 s after the server died")
	}
}

func TestUnsupportedKindsAreCounted(t *testing.T) {
	in, o, _, _, dev, _ := bench(t, 640, 360)
	for range 3 {
		in <- media.Input{Kind: media.Touch}
		in <- media.Input{Kind: media.PadState}
	}
	in <- media.Input{Kind: media.KeyDown, Key: 'A'}
	o.next()
	got := dev.Counts().Unsupported
	if got[media.Touch] != 3 || got[media.PadState] != 3 || len(got) != 2 {
		t.Errorf("counted %v, want 3 touches and 3 pad states", got)
	}
}

// TestLatency measures from the moment that an input is handed over until a
// program on the display has it.
func TestLatency(t *testing.T) {
	in, o, _, _, _, _ := bench(t, 1280, 720)
	measure := func(name string, n int, input func(i int) media.Input) {
		var took []time.Duration
		for i := range n {
			ev := input(i)
			began := time.Now()
			in <- ev
			o.next()
			took = append(took, time.Since(began))
		}
		slices.Sort(took)
		p50, p99 := took[n/2], took[n*99/100]
		t.Logf("%s: p50 %v, p99 %v", name, p50, p99)
		if p50 > time.Millisecond {
			t.Errorf("%s: median %v, want at most 1 ms", name, p50)
		}
	}
	measure("keys", 400, func(i int) media.Input {
		return media.Input{Kind: media.KeyDown + media.InputKind(i%2), Key: 'A'}
	})
	measure("absolute motion", 400, func(i int) media.Input {
		return media.Input{Kind: media.PointerMove, X: 100 + i, Y: 100, W: 1280, H: 720}
	})
	measure("relative motion", 400, func(i int) media.Input {
		return media.Input{Kind: media.PointerDelta, DX: 1 - i%2*2}
	})
	if _, err := x11.Reply(t.Context(), o.conn, xproto.GetInputFocus(o.conn.X)); err != nil {
		t.Fatal(err)
	}
}
