// Package xpm decodes X PixMap version 3 pictures, which many older games bring
// as their only icon. It promises bounded time and memory whatever it is given.
package xpm

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"strconv"
	"strings"

	"golang.org/x/image/colornames"
)

// Bounds of a picture.
const (
	MaxFile   = 1 << 20 // bytes
	MaxEdge   = 512     // pixels
	MaxColors = 1 << 16
	maxChars  = 4 // of one pixel
)

// Decode reads a picture. Names of colours are those of SVG and X11's greys;
// an unknown one is an error.
func Decode(data []byte) (*image.NRGBA, error) {
	if len(data) > MaxFile {
		return nil, fmt.Errorf("xpm: longer than %d bytes", MaxFile)
	}
	src := source{string(data)}
	head, ok := src.next()
	if !ok {
		return nil, errors.New("xpm: has no strings")
	}
	fields := strings.Fields(head)
	if len(fields) < 4 {
		return nil, errors.New("xpm: the header is too short")
	}
	var v [4]int
	for i, limit := range []int{MaxEdge, MaxEdge, MaxColors, maxChars} {
		n, err := strconv.Atoi(fields[i])
		if err != nil || n < 1 || n > limit {
			return nil, fmt.Errorf("xpm: the header's value %q is not from 1 to %d", fields[i], limit)
		}
		v[i] = n
	}
	width, height, colors, chars := v[0], v[1], v[2], v[3]
	table := make(map[string]color.NRGBA, min(colors, 1024))
	for range colors {
		line, ok := src.next()
		if !ok || len(line) < chars {
			return nil, errors.New("xpm: the table of colours is too short")
		}
		c, err := parseColor(line[chars:])
		if err != nil {
			return nil, err
		}
		table[line[:chars]] = c
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		line, ok := src.next()
		if !ok || len(line) < width*chars {
			return nil, fmt.Errorf("xpm: row %d is too short", y)
		}
		for x := range width {
			c, ok := table[line[x*chars:(x+1)*chars]]
			if !ok {
				return nil, fmt.Errorf("xpm: row %d has a pixel of no colour", y)
			}
			img.SetNRGBA(x, y, c)
		}
	}
	return img, nil
}

// source yields the C string literals of a text, passing over comments.
type source struct{ rest string }

func (s *source) next() (string, bool) {
	for s.rest != "" {
		switch {
		case strings.HasPrefix(s.rest, "/*"):
			_, after, ok := strings.Cut(s.rest[2:], "*/")
			if !ok {
				s.rest = ""
				return "", false
			}
			s.rest = after
		case s.rest[0] == '"':
			return s.literal()
		default:
			// To the next place where something can begin.
			i := strings.IndexAny(s.rest[1:], `"/`)
			if i < 0 {
				s.rest = ""
				return "", false
			}
			s.rest = s.rest[1+i:]
		}
	}
	return "", false
}

// literal reads the string that s.rest begins with. Backslashes are literal
// unless they escape a quote or another one: pictures use them as pixels.
func (s *source) literal() (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '"':
			s.rest = s.rest[i+1:]
			return b.String(), true
		case c == '\\' && i+1 < len(s.rest) && (s.rest[i+1] == '"' || s.rest[i+1] == '\\'):
			i++
			b.WriteByte(s.rest[i])
		case c == '\n':
			s.rest = ""
			return "", false
		default:
			b.WriteByte(c)
		}
	}
	s.rest = ""
	return "", false
}

// parseColor picks the best of a colour line's values: colour, then grey, then
// monochrome.
func parseColor(line string) (color.NRGBA, error) {
	values := map[string]string{}
	key := ""
	for _, f := range strings.Fields(line) {
		switch f {
		case "c", "g", "g4", "m", "s":
			// A key right after a key is a colour of that name; there is none.
			key = f
		default:
			if key == "" {
				return color.NRGBA{}, errors.New("xpm: a colour without a key")
			}
			values[key] += f // names may be of several words, "light blue"
		}
	}
	for _, key := range []string{"c", "g", "g4", "m"} {
		if v, ok := values[key]; ok {
			return named(v)
		}
	}
	return color.NRGBA{}, errors.New("xpm: a colour without a value")
}

func named(s string) (color.NRGBA, error) {
	s = strings.ToLower(s)
	if s == "none" || s == "transparent" {
		return color.NRGBA{}, nil
	}
	if digits, ok := strings.CutPrefix(s, "#"); ok {
		n := len(digits) / 3
		if n < 1 || n > 4 || len(digits)%3 != 0 {
			return color.NRGBA{}, fmt.Errorf("xpm: %q is no colour", s)
		}
		var rgb [3]uint8
		for i := range rgb {
			v, err := strconv.ParseUint(digits[i*n:(i+1)*n], 16, 16)
			if err != nil {
				return color.NRGBA{}, fmt.Errorf("xpm: %q is no colour", s)
			}
			rgb[i] = uint8(v * 255 / (1<<(4*n) - 1))
		}
		return color.NRGBA{rgb[0], rgb[1], rgb[2], 255}, nil
	}
	for _, prefix := range []string{"gray", "grey"} {
		if percent, ok := strings.CutPrefix(s, prefix); ok && percent != "" {
			if n, err := strconv.Atoi(percent); err == nil && n >= 0 && n <= 100 {
				g := uint8((n*255 + 50) / 100)
				return color.NRGBA{g, g, g, 255}, nil
			}
		}
	}
	c, ok := colornames.Map[s]
	if !ok {
		return color.NRGBA{}, fmt.Errorf("xpm: unknown colour %q", s)
	}
	return color.NRGBA(c), nil
}
