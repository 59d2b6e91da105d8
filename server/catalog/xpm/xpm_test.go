package xpm

import (
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	img, err := Decode([]byte(`/* XPM */
/* a comment with "quotes" */
static char * x[] = {
/* width height colours chars */
"4 2 6 2 1 1 XPMEXT",
"   c None",
".. m black c #ff8000 s body",
"\"a c #F00",
"bb c #0000ffff0000",
"cc c light blue",
"dd g gray50",
"  ..\"abb",
"ccdd    "
};`))
	if err != nil {
		t.Fatal(err)
	}
	want := [2][4]color.NRGBA{
		{{}, {255, 128, 0, 255}, {255, 0, 0, 255}, {0, 255, 0, 255}},
		{{173, 216, 230, 255}, {128, 128, 128, 255}, {}, {}},
	}
	for y, row := range want {
		for x, c := range row {
			if got := img.NRGBAAt(x, y); got != c {
				t.Errorf("pixel %d,%d: got %v, want %v", x, y, got, c)
			}
		}
	}
}

func TestBadPictures(t *testing.T) {
	t.Parallel()
	for _, s := range []string{
		"", "rubbish", `"1 1 1`, `"1 1 1"`, `"0 1 1 1"`, `"1 1 1 5"`, `"513 1 1 1"`, `"1 1 65537 1"`, `"-1 1 1 1"`, `"1 1 1 1"`, `"1 1 1 1" "a"`, `"1 1 1 1" "a c"`,
		`"1 1 1 1" "a c nocolour" "a"`, `"1 1 1 1" "a c #12" "a"`, `"1 1 1 1" "a c #xyz" "a"`, `"1 1 1 1" "a x red" "a"`, `"1 1 1 1" "a c red"`, `"1 1 1 1" "a c red" "b"`, `"2 1 1 1" "a c red" "a"`,
		"\"1 1 1 1\n\"", `/* "1 1 1 1" "a c red" "a"`, strings.Repeat(" ", MaxFile+1),
	} {
		if img, err := Decode([]byte(s)); err == nil {
			t.Errorf("%.40q: got %v, want an error", s, img.Bounds())
		}
	}
	if _, err := Decode([]byte(`"1 1 1 1" "a c red" "a"`)); err != nil {
		t.Errorf("the smallest picture: %v", err)
	}
}

func TestPicturesOfThisMachine(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("/usr/share/pixmaps/*.xpm")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if img, err := Decode(b); err != nil || img.Bounds().Empty() {
			t.Errorf("%s: %v", f, err)
		}
	}
	t.Logf("%d pictures", len(files))
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`/* XPM */ static char*x[]={"2 1 2 1","a c #ff0000","b c None","ab"};`))
	f.Add([]byte(`"1 1 1 4" "aaaa g4 gray7 c light blue" "aaaa"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Decode(b)
		if err == nil && (img.Bounds().Dx() > MaxEdge || img.Bounds().Dy() > MaxEdge || img.Bounds().Empty()) {
			t.Errorf("%v", img.Bounds())
		}
	})
}
