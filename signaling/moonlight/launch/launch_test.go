package launch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = Key{0xc0, 0xff, 0xee, 0xba, 0xbe, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}

func add(t *testing.T, p *Pending, terms Terms) *Launch {
	t.Helper()
	l := New(terms, key)
	if err := p.Add(l); err != nil {
		t.Fatal(err)
	}
	return l
}

func TestTheKeyIsNeverShown(t *testing.T) {
	t.Parallel()
	l := New(Terms{Device: "tv", Session: "s1", App: 7}, key)
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		fmt.Fprintf(&out, verb+"\n", l)
		fmt.Fprintf(&out, verb+"\n", key)
	}
	for _, h := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(h).Info("it", "launch", l, "key", key, "within", struct{ K Key }{key})
	}
	j, err := json.Marshal(map[string]any{"l": l, "k": key})
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	shown := strings.ToLower(out.String())
	for _, secret := range []string{"c0ffee", "192 255 238", "192,255,238", "0xc0, 0xff", "c0 ff ee", `\xc0\xff`} {
		if strings.Contains(shown, secret) {
			t.Errorf("%q is shown in\n%s", secret, shown)
		}
	}
	if !strings.Contains(shown, "device tv") || !strings.Contains(shown, hidden) {
		t.Errorf("nothing of the launch is shown in\n%s", shown)
	}
}

func TestEndForgetsTheKey(t *testing.T) {
	t.Parallel()
	l := New(Terms{}, key)
	if got, ok := l.Key(); got != key || !ok {
		t.Fatal("the key is not there")
	}
	l.End()
	l.End()
	if got, ok := l.Key(); got != (Key{}) || ok || l.key != (Key{}) {
		t.Error("the key is still there")
	}
	select {
	case <-l.Done():
	default:
		t.Error("it is not done")
	}
}

func TestIdentifiersAreWhatClientsTake(t *testing.T) {
	t.Parallel()
	a, b := New(Terms{}, key), New(Terms{}, key)
	if len(a.PingPayload) != 16 || a.PingPayload == b.PingPayload {
		t.Errorf("ping payloads %q and %q", a.PingPayload, b.PingPayload)
	}
	if a.ConnectData == 0 || a.ConnectData == b.ConnectData {
		t.Errorf("connect data %d and %d", a.ConnectData, b.ConnectData)
	}
}

func TestALaunchWaitsForALimitedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Pending{For: 10 * time.Second}
		l := add(t, p, Terms{Device: "tv"})
		taken := add(t, p, Terms{Device: "phone"})
		time.Sleep(9 * time.Second)
		if !p.Renew(l) || !p.Take(taken) || p.Take(taken) {
			t.Fatal("it does not wait")
		}
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if l.ended() || p.ByConnectData(l.ConnectData) != l {
			t.Error("it was ended though it had been renewed")
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if !l.ended() || p.Renew(l) || p.Take(l) || len(p.All()) != 0 {
			t.Error("it still waits")
		}
		if taken.ended() {
			t.Error("a launch that was taken was ended")
		}
	})
}

func TestANewLaunchOfADeviceReplacesItsOldOne(t *testing.T) {
	t.Parallel()
	var p Pending
	defer p.Close()
	old := add(t, &p, Terms{Device: "tv"})
	other := add(t, &p, Terms{Device: "phone"})
	l := add(t, &p, Terms{Device: "tv"})
	if !old.ended() || other.ended() || l.ended() {
		t.Error("the wrong launch was ended")
	}
	if all := p.All(); len(all) != 2 || !slices.Contains(all, other) || !slices.Contains(all, l) {
		t.Errorf("%v wait", all)
	}
}

func TestTheSetIsBounded(t *testing.T) {
	t.Parallel()
	p := Pending{Most: 2}
	a := add(t, &p, Terms{Device: "a"})
	add(t, &p, Terms{Device: "b"})
	if err := p.Add(New(Terms{Device: "c"}, key)); !errors.Is(err, ErrTooMany) {
		t.Fatalf("the third: %v", err)
	}
	a.End()
	last := add(t, &p, Terms{Device: "c"})
	p.Close()
	p.Close()
	if err := p.Add(New(Terms{}, key)); !errors.Is(err, ErrClosed) || !last.ended() || len(p.All()) != 0 {
		t.Errorf("after Close: %v, %v wait", err, p.All())
	}
}

func TestLaunchesAreFound(t *testing.T) {
	t.Parallel()
	var p Pending
	defer p.Close()
	home := netip.MustParseAddr("::ffff:192.0.2.7")
	modern := add(t, &p, Terms{Device: "modern", From: home, CoreVer: 1})
	add(t, &p, Terms{Device: "before", From: home})
	old := New(Terms{Device: "old", From: home}, key)
	old.Created = old.Created.Add(time.Second)
	if err := p.Add(old); err != nil {
		t.Fatal(err)
	}
	if p.ByConnectData(modern.ConnectData) != modern || p.ByPing(modern.PingPayload) != modern {
		t.Error("a launch is not found")
	}
	if p.ByConnectData(0) != nil || p.ByPing("") != nil || p.BySource(netip.Addr{}) != nil || p.BySource(netip.MustParseAddr("192.0.2.8")) != nil {
		t.Error("a stranger is found")
	}
	if got := p.BySource(netip.MustParseAddr("192.0.2.7")); got != old {
		t.Errorf("by source: %v, want the newest of the old clients", got)
	}
	old.End()
	if p.ByConnectData(old.ConnectData) != nil {
		t.Error("one that ended is found")
	}
}
