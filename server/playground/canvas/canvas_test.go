package canvas

import (
	"math/rand/v2"
	"testing"
)

// channels takes a colour apart.
func channels(c Color) [3]int { return [3]int{int(c >> 16 & 255), int(c >> 8 & 255), int(c & 255)} }

func TestAddStopsAtFull(t *testing.T) {
	check := func(a, b Color) {
		t.Helper()
		got, x, y := channels(Add(a, b)), channels(a), channels(b)
		for i := range 3 {
			if want := min(255, x[i]+y[i]); got[i] != want {
				t.Fatalf("Add(%06x, %06x) = %06x", a, b, Add(a, b))
			}
		}
		if Add(a, b) > 0xffffff {
			t.Fatalf("Add(%06x, %06x) spills into the unused byte", a, b)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 100000 {
		check(r.Uint32()&0xffffff, r.Uint32()&0xffffff)
	}
	check(0xffffff, 0xffffff)
	check(0x808080, 0x808080)
	check(0x7f7f7f, 0x010101)
}

func TestMixGoesFromOneToTheOther(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 10000 {
		a, b, at := r.Uint32()&0xffffff, r.Uint32()&0xffffff, r.Uint32N(257)
		got, x, y := channels(Mix(a, b, at)), channels(a), channels(b)
		for i := range 3 {
			want := (x[i]*(256-int(at)) + y[i]*int(at)) / 256
			if d := got[i] - want; d < -1 || d > 1 {
				t.Fatalf("Mix(%06x, %06x, %d) = %06x", a, b, at, Mix(a, b, at))
			}
		}
	}
	if Mix(1, 0xffffff, 0) != 1 || Mix(1, 0xfefefe, 256) != 0xfefefe {
		t.Error("the ends are not exact")
	}
}

// framed is a picture within a larger one, to see what is drawn outside of it.
func framed(w, h int) (inner Image, untouched func() bool) {
	const border = 64
	all := New(w+2*border, h+2*border)
	all.Fill(0, 0, all.Width, all.Height, 0xabcdef)
	inner = Image{Pix: all.Pix[border*all.Stride+border:], Width: w, Height: h, Stride: all.Stride}
	return inner, func() bool {
		for y := range all.Height {
			for x := range all.Width {
				inside := x >= border && x < border+w && y >= border && y < border+h
				if !inside && all.Pix[y*all.Stride+x] != 0xabcdef {
					return false
				}
			}
		}
		return true
	}
}

func TestNothingIsDrawnOutside(t *testing.T) {
	sprite := New(20, 10)
	sprite.Fill(0, 0, 20, 10, Clear)
	sprite.Fill(3, 2, 5, 5, 0xff0000)
	sprite.Fill(12, 0, 8, 10, 0x00ff00)
	s := NewSprite(sprite)
	l := NewLight(9)
	f, err := NewFont(Mono, 14)
	if err != nil {
		t.Fatal(err)
	}
	for y := -40; y < 60; y += 3 {
		for x := -40; x < 80; x += 3 {
			m, untouched := framed(40, 24)
			s.Draw(m, x, y)
			s.DrawTiled(m, x, y, 20)
			l.Shine(m, x, y, 0xffffff)
			m.Fill(x, y, 17, 9, 1)
			m.Veil(x, y, 17, 9, 2)
			m.Copy(sprite, x, y)
			f.Draw(m, x, y, 3, "Hß漢")
			if !untouched() {
				t.Fatalf("something was drawn outside at %d, %d", x, y)
			}
		}
	}
}

func TestSpriteHasHolesAndTiles(t *testing.T) {
	img := New(4, 1)
	copy(img.Pix, []Color{1, Clear, 3, 4})
	m := New(10, 1)
	m.Fill(0, 0, 10, 1, 9)
	NewSprite(img).DrawTiled(m, 5, 0, 1)
	want := []Color{9, 3, 4, 1, 9, 3, 4, 1, 9, 3}
	for x, c := range want {
		if m.Pix[x] != c {
			t.Fatalf("got %v, want %v", m.Pix, want)
		}
	}
}

func TestFontSpellsWhatItLacks(t *testing.T) {
	f, err := NewFont(Mono, 16)
	if err != nil {
		t.Fatal(err)
	}
	for r, want := range map[rune]string{'a': "a", 'ä': "ä", '€': "€", 'Ж': "Ж", '漢': "‹6F22›", '🙂': "‹1F642›", '\n': "‹A›"} {
		if got := f.spell(r); got != want {
			t.Errorf("%q is written %s, want %s", r, got, want)
		}
	}
	m := New(200, 40)
	end := f.Draw(m, 10, 5, 0xffffff, "aä漢")
	if got, want := end-10, f.Width("aä漢"); got != want {
		t.Errorf("the pen moved %d pixels, the text is %d wide", got, want)
	}
	ink := 0
	for _, c := range m.Pix {
		if c != 0 {
			ink++
		}
	}
	if ink < 50 {
		t.Errorf("only %d pixels of ink", ink)
	}
}
