package nvhttp

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"testing"
)

// TestAsARealClientAsked replays what a real client asked another host, and compares
// the shape of the answers: their status and their elements.
func TestAsARealClientAsked(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/exchange.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []struct{ Transport, Request, Response string }
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	d := open(t)
	tv, stranger := trusted(t, d, keys()[0], ada), newClient(t, d, keys()[1])
	program := id(t, tv.xml(t, true, "/applist"), "Chess")
	for _, x := range all {
		want, err := read([]byte(x.Response))
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(x.Request)
		if err != nil {
			t.Fatal(err)
		}
		q := u.Query()
		if q.Has("appid") {
			q.Set("appid", fmt.Sprint(program))
		}
		q.Del("uniqueid")
		q.Del("uuid") // the client of the test has its own
		from := tv
		if want.status == 401 {
			from = stranger
		}
		got, err := read(from.get(t, x.Transport == "https", u.Path+"?"+q.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		if elements := slices.Sorted(maps.Keys(want.text)); got.status != want.status || !slices.Equal(slices.Sorted(maps.Keys(got.text)), elements) || (len(got.apps) > 0) != (len(want.apps) > 0) {
			t.Errorf("%s: status %d, elements %v and %d programs; want %d, %v and %d", u.Path, got.status, slices.Sorted(maps.Keys(got.text)), len(got.apps), want.status, elements, len(want.apps))
		}
	}
}
