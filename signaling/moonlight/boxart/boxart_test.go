package boxart

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func icon(t testing.TB, w, h int, c color.Color) []byte {
	t.Helper()
	m := image.NewRGBA(image.Rect(0, 0, w, h))
	for i := range w * h {
		m.Set(i%w, i/w, c)
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func compose(t *testing.T, seed, title string, icon []byte) image.Image {
	t.Helper()
	b, err := Compose(seed, title, icon)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("BOXART_DIR"); dir != "" { // to look at them
		if err := os.WriteFile(filepath.Join(dir, seed+".png"), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m, err := png.Decode(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Bounds(), image.Rect(0, 0, Width, Height); got != want {
		t.Fatalf("its size is %v, want %v", got, want)
	}
	if len(b) > 300<<10 {
		t.Errorf("it has %d bytes", len(b))
	}
	return m
}

// white counts bright pixels of the title's lines.
func white(m image.Image) (n int) {
	for y := titleTop - titleSize; y < Height; y++ {
		for x := range Width {
			if r, g, b, _ := m.At(x, y).RGBA(); min(r, g, b) > 0xE000 {
				n++
				if x < margin-2 || x > Width-margin+2 {
					return -1
				}
			}
		}
	}
	return n
}

func TestTheIconIsInTheMiddleOfADarkGround(t *testing.T) {
	t.Parallel()
	red := color.RGBA{255, 0, 0, 255}
	for seed, size := range map[string][2]int{"square": {64, 64}, "wide": {300, 150}, "tall": {33, 512}, "line": {1024, 1}} {
		m := compose(t, seed, "A Game", icon(t, size[0], size[1], red))
		if r, g, b, _ := m.At(Width/2, iconMiddle).RGBA(); r < 0xF000 || g > 0x1000 || b > 0x1000 {
			t.Errorf("%s: the middle is %x %x %x", seed, r>>8, g>>8, b>>8)
		}
		for _, p := range []image.Point{{0, 0}, {Width - 1, Height - 1}, {Width/2 - iconEdge/2 - 2, iconMiddle}, {Width / 2, iconMiddle + iconEdge/2 + 2}} {
			if r, g, b, _ := m.At(p.X, p.Y).RGBA(); max(r, g, b) > 0x6000 {
				t.Errorf("%s: %v is not dark: %x %x %x", seed, p, r>>8, g>>8, b>>8)
			}
		}
		if white(m) < 200 {
			t.Errorf("%s: no title", seed)
		}
	}
}

func TestTitlesStayWithinThePicture(t *testing.T) {
	t.Parallel()
	for seed, title := range map[string]string{
		"t1": "Ü", "t2": "The Curious Expedition of the Very Slow Snail: Director's Cut, Volume Two",
		"t3": strings.Repeat("W", 500), "t4": strings.Repeat("w ", 500), "t5": "Тетрис  и\tдругие",
	} {
		if n := white(compose(t, seed, title, nil)); n < 50 {
			t.Errorf("%q: %d", title, n)
		}
	}
	for seed, title := range map[string]string{"t6": "", "t7": "日本", "t8": "\xff\x00"} {
		if n := white(compose(t, seed, title, nil)); n != 0 {
			t.Errorf("%q: %d", title, n)
		}
	}
}

func TestABadIconIsAnErrorAndAPictureWithoutIt(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{
		"text": []byte("<svg/>"), "cut": icon(t, 64, 64, color.White)[:60], "giant": icon(t, maxIconEdge+1, 1, color.White), "heavy": make([]byte, maxIconBytes+1),
	} {
		b, err := Compose("x", "Game", data)
		if !errors.Is(err, ErrIcon) {
			t.Errorf("%s: %v", name, err)
		}
		if c, err := png.DecodeConfig(bytes.NewReader(b)); err != nil || c.Width != Width {
			t.Errorf("%s: no picture: %v", name, err)
		}
	}
}

// FuzzIcon and FuzzTitle are of what comes from outside; a whole picture takes too
// long for many.
func FuzzIcon(f *testing.F) {
	f.Add(icon(f, 3, 2, color.White))
	f.Add([]byte("\x89PNG"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 4<<10 {
			return
		}
		m, err := decode(data)
		if (m == nil) != (err != nil || len(data) == 0) || err != nil && !errors.Is(err, ErrIcon) {
			t.Fatalf("%v, %v", m, err)
		}
	})
}

func FuzzTitle(f *testing.F) {
	f.Add("A Game, Volume Two")
	f.Add("Ω\u202e \x00\xff " + strings.Repeat("W", 40))
	p, err := newPen(titleSize)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, title string) {
		lines := p.lines(p.known(title))
		if len(lines) > titleLines {
			t.Fatalf("%d lines", len(lines))
		}
		for _, l := range lines {
			if p.width(l) > Width-2*margin {
				t.Fatalf("%q is too wide", l)
			}
		}
	})
}

func BenchmarkCompose(b *testing.B) {
	i := icon(b, 256, 256, color.White)
	for b.Loop() {
		if _, err := Compose("id", "A Game", i); err != nil {
			b.Fatal(err)
		}
	}
}
