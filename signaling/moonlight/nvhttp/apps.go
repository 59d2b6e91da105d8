package nvhttp

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
)

// maxApps bounds a list; catalogues have hundreds.
const maxApps = 4096

// artStyle is in every number, so that pictures which look different have
// different ones: clients keep a picture for ever.
const artStyle = "1"

// app is a program with the number that clients know it by.
type app struct {
	Program
	number uint32 // 1…2³¹-1
}

// numberOf is a program's number, unless it is taken: then a higher try.
func numberOf(p Program, try int) uint32 {
	h := sha256.New()
	for _, s := range []string{artStyle, p.ID, p.Title, p.Picture, strconv.Itoa(try)} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		_, _ = h.Write(append(n[:], s...)) // a hash never fails
	}
	return max(binary.BigEndian.Uint32(h.Sum(nil))&0x7FFFFFFF, 1)
}

// numbered gives each program its number, the same ones for the same programs
// whatever order they come in, and sorts them by title.
func numbered(of []Program, number func(Program, int) uint32) []app {
	of = slices.Clone(of)
	slices.SortFunc(of, func(a, b Program) int { return cmp.Compare(a.ID, b.ID) })
	of = slices.CompactFunc(of, func(a, b Program) bool { return a.ID == b.ID })
	of = of[:min(len(of), maxApps)]
	taken := make(map[uint32]bool, len(of))
	apps := make([]app, 0, len(of))
	for _, p := range of {
		try := 0
		n := number(p, try)
		for taken[n] {
			try++
			n = number(p, try)
		}
		taken[n] = true
		apps = append(apps, app{p, n})
	}
	slices.SortStableFunc(apps, func(a, b app) int { return cmp.Compare(a.Title, b.Title) })
	return apps
}

func byNumber(apps []app, n uint32) (app, bool) {
	i := slices.IndexFunc(apps, func(a app) bool { return a.number == n })
	if i < 0 {
		return app{}, false
	}
	return apps[i], true
}

// numberRunning is the number of what runs. What is not in the list any more has
// one all the same, since 0 means that nothing runs.
func numberRunning(apps []app, r Running) uint32 {
	for _, a := range apps {
		if a.ID == r.Program {
			return a.number
		}
	}
	return numberOf(Program{ID: r.Program, Title: r.Title}, 0)
}
