package discovery

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

var (
	addrs = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}
	ours  = newZone("Ada's PC", "fenrir-0123", 47989, 1)
)

func name(s string) dnsmessage.Name { return dnsmessage.MustNewName(s) }

// sent packs m and parses it as another host would.
func sent(t testing.TB, m dnsmessage.Message) *message {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 512 {
		t.Errorf("it has %d bytes", len(b))
	}
	got, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// brief lists records.
func brief(of []dnsmessage.Resource) string {
	var out []string
	for _, r := range of {
		s := strings.TrimPrefix(r.Header.Type.String(), "Type")
		switch b := r.Body.(type) {
		case *dnsmessage.PTRResource:
			s += ">" + b.PTR.String()
		case *dnsmessage.AResource:
			s += ">" + netip.AddrFrom4(b.A).String()
		case *dnsmessage.AAAAResource:
			s += ">" + netip.AddrFrom16(b.AAAA).String()
		case *dnsmessage.SRVResource:
			s += ">" + b.Target.String()
		}
		if r.Header.Class&flushBit != 0 {
			s += "!"
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestLabels(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"pc": "pc", "Ada's PC": "Adas-PC", "": "Fenrir", "--": "Fenrir", "日本": "Fenrir", "a.b_c": "a-b-c", " x ": "x",
		strings.Repeat("n", 100): strings.Repeat("n", 55), strings.Repeat("-n", 100): strings.Repeat("n-", 27) + "n",
	} {
		if got := label(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if z := newZone(strings.Repeat("n", 100), strings.Repeat("h", 100), 1, 99999); len(strings.Split(z.instance.String(), ".")[0]) > maxLabel {
		t.Errorf("%s is too long", z.instance)
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	const inst, host = "Adas-PC." + serviceName, "fenrir-0123.local."
	ask := func(n string, of dnsmessage.Type) []dnsmessage.Question {
		return []dnsmessage.Question{{Name: name(n), Type: of, Class: dnsmessage.ClassINET}}
	}
	const srv, txt, a, aaaa, ptr = "SRV>" + host + "!", "TXT!", "A>192.0.2.7!", "AAAA>2001:db8::7!", "PTR>" + inst
	for what, x := range map[string]struct {
		q             []dnsmessage.Question
		answers, more string
	}{
		"the service":           {ask(serviceName, dnsmessage.TypePTR), ptr, srv + " " + txt + " " + a + " " + aaaa},
		"in capitals, whatever": {ask(strings.ToUpper(serviceName), anyType), ptr, srv + " " + txt + " " + a + " " + aaaa},
		"where":                 {ask(inst, dnsmessage.TypeSRV), srv, ptr + " " + txt + " " + a + " " + aaaa},
		"what":                  {ask(inst, dnsmessage.TypeTXT), txt, ptr + " " + srv + " " + a + " " + aaaa},
		"the host":              {append(ask(host, dnsmessage.TypeA), ask(host, dnsmessage.TypeAAAA)...), a + " " + aaaa, ptr + " " + srv + " " + txt},
		"the sorts of services": {ask(servicesName, dnsmessage.TypePTR), "PTR>" + serviceName, ""},
		"something else":        {ask("_http._tcp.local.", dnsmessage.TypePTR), "", ""},
		"another class":         {[]dnsmessage.Question{{Name: name(serviceName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassCHAOS}}, "", ""},
		"mail":                  {ask(host, dnsmessage.TypeMX), "", ""},
	} {
		out, ok := ours.answer(sent(t, dnsmessage.Message{Questions: x.q}), addrs)
		if got := brief(out.Answers); got != x.answers || ok != (x.answers != "") || brief(out.Additionals) != x.more {
			t.Errorf("%s: got %q and %q, %v", what, got, brief(out.Additionals), ok)
		}
		if ok {
			sent(t, out)
		}
	}
	known := dnsmessage.Message{Questions: ask(serviceName, dnsmessage.TypePTR), Answers: ours.all(addrs)[:1]}
	if out, ok := ours.answer(sent(t, known), addrs); ok {
		t.Errorf("who knows it is told %s", brief(out.Answers))
	}
	known.Answers[0].Header.TTL = sharedTTL/2 - 1
	if _, ok := ours.answer(sent(t, known), addrs); !ok {
		t.Error("who will have forgotten it soon is not told")
	}
}

func TestRecordsAreWhatClientsRead(t *testing.T) {
	t.Parallel()
	m := sent(t, ours.announcement(addrs))
	if len(m.answers) != 5 {
		t.Fatal(brief(m.answers))
	}
	for _, r := range m.answers {
		switch b := r.Body.(type) {
		case *dnsmessage.SRVResource:
			if b.Port != 47989 || b.Priority != 0 || r.Header.TTL != hostTTL {
				t.Errorf("SRV %+v", b)
			}
		case *dnsmessage.TXTResource:
			if len(b.TXT) != 1 || b.TXT[0] != "" {
				t.Errorf("TXT %q", b.TXT)
			}
		}
	}
	for _, r := range sent(t, ours.goodbye(addrs)).answers {
		if r.Header.TTL != 0 {
			t.Errorf("%s stays", r.Header.Name)
		}
	}
	q := &message{id: 7, questions: []dnsmessage.Question{{Name: name(serviceName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}}}
	out, _ := ours.answer(q, addrs)
	out = legacy(out, q)
	if got := sent(t, out); got.id != 7 || len(got.questions) != 1 || strings.Contains(brief(out.Answers)+brief(out.Additionals), "!") || out.Additionals[0].Header.TTL > legacyTTL {
		t.Errorf("a simple resolver gets %+v", out)
	}
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	away := []netip.Addr{netip.MustParseAddr("198.51.100.9")}
	own := append(away, addrs...)
	others := newZone("Ada's PC", "fenrir-9999", 47989, 1)
	clone := newZone("x", "fenrir-0123", 1, 1)
	for what, x := range map[string]struct {
		m    dnsmessage.Message
		want bool
	}{
		"ourselves":             {ours.announcement(addrs), false},
		"ourselves, elsewhere":  {ours.announcement(away), false},
		"our question":          {ours.probe(addrs), false},
		"our name for another":  {others.announcement(away), true},
		"its goodbye":           {others.goodbye(away), false},
		"our host elsewhere":    {clone.announcement([]netip.Addr{netip.MustParseAddr("203.0.113.1")}), true},
		"our host, IPv6":        {clone.announcement([]netip.Addr{netip.MustParseAddr("2001:db8::8")}), true},
		"somebody else":         {(&zone{name("x." + serviceName), name("y.local."), 1}).announcement(away), false},
		"a probe is a question": {others.probe(away), false},
	} {
		if got := ours.conflict(sent(t, x.m), own); got != x.want {
			t.Errorf("%s: %v", what, got)
		}
	}
	first, second := sent(t, ours.probe(addrs)), sent(t, others.probe(addrs))
	if ours.yields(first, addrs, own) || ours.yields(sent(t, ours.probe(away)), addrs, own) {
		t.Error("it yields to itself")
	}
	if a, b := ours.yields(second, addrs, own), others.yields(first, addrs, own); a == b {
		t.Errorf("of two one yields: %v, %v", a, b)
	}
	if ours.yields(sent(t, (&zone{name("x." + serviceName), name("y.local."), 1}).probe(away)), addrs, own) {
		t.Error("it yields to somebody with another name")
	}
}

func FuzzParse(f *testing.F) {
	for _, m := range []dnsmessage.Message{ours.probe(addrs), ours.announcement(addrs), ours.goodbye(nil), {Questions: []dnsmessage.Question{{Name: name(serviceName), Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET | unicastBit}}}} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		ours.conflict(m, addrs)
		ours.yields(m, addrs, addrs)
		m.unicast()
		out, ok := ours.answer(m, addrs)
		if !ok {
			return
		}
		packed, err := out.Pack()
		if err != nil || len(packed) > 1200 {
			t.Fatalf("%d bytes, %v", len(packed), err)
		}
		out = legacy(out, m)
		if _, err := out.Pack(); err != nil {
			t.Fatal(err)
		}
	})
}
