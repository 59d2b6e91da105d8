package gpu

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func taken(t *testing.T, d driver) (Report, []string) {
	t.Helper()
	var out bytes.Buffer
	if code := probe(d, &out); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	var stages []string
	for _, text := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if l.Stage != "" {
			stages = append(stages, l.Stage)
		}
	}
	r, _ := read(out.Bytes())
	if r == nil {
		t.Fatalf("no report in %s", out.String())
	}
	return *r, stages
}

func TestProbeTellsStatesApart(t *testing.T) {
	for _, c := range []struct {
		name   string
		driver *fakeDriver
		state  State
		note   string
	}{
		{"no library", &fakeDriver{missing: true, loadErr: errors.New("libnvidia-ml.so.1: cannot open shared object file")}, NoDriver, "No NVIDIA driver is installed on this machine."},
		{"broken library", &fakeDriver{loadErr: errors.New("file too short")}, DriverError, "NVIDIA GPUs cannot be asked: the driver library cannot be loaded: file too short."},
		{"driver and library differ", &fakeDriver{initErr: errors.New("initialise: driver/library version mismatch")}, DriverError, "NVIDIA GPUs cannot be asked: the driver library does not start: initialise: driver/library version mismatch."},
		{"no count", &fakeDriver{countErr: errors.New("count: unknown error")}, DriverError, "NVIDIA GPUs cannot be asked: the driver does not tell its GPUs: count: unknown error."},
		{"no C", &fakeDriver{loadErr: errNotBuiltIn}, NotBuiltIn, "NVIDIA GPUs cannot be asked: this binary was built without NVIDIA support (CGO_ENABLED=0)."},
		{"no GPU", &fakeDriver{}, OK, "The NVIDIA driver 570.86.10 is installed, but it finds no GPU."},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := taken(t, c.driver)
			if r.State != c.state {
				t.Errorf("state %q, want %q", r.State, c.state)
			}
			if got := r.Note(); got != c.note {
				t.Errorf("note %q, want %q", got, c.note)
			}
			if r.GPUs == nil || len(r.GPUs) != 0 {
				t.Errorf("GPUs %v, want an empty list", r.GPUs)
			}
		})
	}
}

func TestProbeReportsACard(t *testing.T) {
	r, stages := taken(t, &fakeDriver{cards: []fakeCard{ada()}})
	if want := []string{"loading libnvidia-ml.so.1", "initialising the driver library", "asking for the GPUs", "asking GPU 0"}; strings.Join(stages, "|") != strings.Join(want, "|") {
		t.Errorf("stages %q, want %q", stages, want)
	}
	g := r.GPUs[0]
	if g.Name != "NVIDIA GeForce RTX 4090" || g.PCI != "00000000:01:00.0" || g.Compute != "8.9" || *g.MemoryTotal != 24<<30 || *g.MemoryUsed != 1<<30 {
		t.Errorf("card %+v", g)
	}
	if *g.Busy != 40 || *g.Encoder != 0 {
		t.Errorf("busy %d, encoder %d, want 40 and a known 0", *g.Busy, *g.Encoder)
	}
	if g.Decoder != nil {
		t.Errorf("decoder %d, want unknown", *g.Decoder)
	}
	if g.Sessions == nil || *g.Sessions != (Encodes{2, 60, 1500}) {
		t.Errorf("sessions %v", g.Sessions)
	}
	if g.NVENC.Present != Yes || g.NVENC.Limit != 8 || !g.NVENC.Shared || g.NVENC.Capacity["av1"] != 97 {
		t.Errorf("nvenc %+v", g.NVENC)
	}
	if r.Note() != "" {
		t.Errorf("note %q, want none", r.Note())
	}
	b, err := json.Marshal(g)
	if err != nil || !bytes.Contains(b, []byte(`"decoder":null`)) || !bytes.Contains(b, []byte(`"encoder":0`)) {
		t.Errorf("JSON %s: %v; unknown has to be null and a known 0 to be 0", b, err)
	}
}

func TestProbeSurvivesALostCardBesideAGoodOne(t *testing.T) {
	r, _ := taken(t, &fakeDriver{cards: []fakeCard{{lost: true}, ada()}})
	if r.State != OK || len(r.GPUs) != 2 {
		t.Fatalf("report %+v", r)
	}
	if g := r.GPUs[0]; g.Problem != "the driver does not answer for this GPU: handle: gpu is lost" || g.NVENC.Present != Unknown || g.MemoryTotal != nil {
		t.Errorf("lost card %+v", g)
	}
	if r.GPUs[1].NVENC.Present != Yes {
		t.Errorf("good card %+v", r.GPUs[1])
	}
}

func TestSilentCardStaysUnknown(t *testing.T) {
	r, _ := taken(t, &fakeDriver{cards: []fakeCard{{title: "NVIDIA GeForce RTX 4090", silent: true}}})
	g := r.GPUs[0]
	if g.Busy != nil || g.Encoder != nil || g.MemoryUsed != nil || g.Sessions != nil {
		t.Errorf("unknown numbers are shown: %+v", g)
	}
	if g.NVENC.Present != Unknown || !g.NVENC.Shared || g.NVENC.Limit != 8 {
		t.Errorf("nvenc %+v, want unknown, with the limit that its name implies", g.NVENC)
	}
}

func TestNVENC(t *testing.T) {
	all := map[string]int{"h264": 100, "h265": 100, "av1": 100}
	for _, c := range []struct {
		name, cc string
		free     map[string]int
		refuses  bool
		want     Answer
		word     string // in the reason
	}{
		{"NVIDIA A100-SXM4-80GB", "8.0", nil, true, No, "A100"},
		{"NVIDIA A100-SXM4-80GB", "8.0", all, true, No, "A100"}, // whatever the driver claims
		{"NVIDIA A30", "8.0", nil, true, No, "A100 family"},
		{"NVIDIA A30", "", all, false, No, "A100 family"}, // by name alone
		{"NVIDIA H100 80GB HBM3", "9.0", nil, false, No, "H100"},
		{"NVIDIA H100 PCIe", "", all, false, No, "H100"},
		{"NVIDIA H200", "9.0", all, false, No, "H200"},
		{"NVIDIA GH200 480GB", "9.0", nil, true, No, "Hopper"},
		{"NVIDIA B200", "10.0", nil, true, No, "B200"},
		{"NVIDIA GeForce GT 1030", "6.1", nil, true, No, "GT 1030"},
		{"NVIDIA GeForce MX150", "6.1", all, false, No, "MX150"},
		{"NVIDIA L4", "8.9", all, true, Yes, "h264, h265, av1"},
		{"NVIDIA A10", "8.6", map[string]int{"h264": 0, "h265": 0}, true, Yes, "h264, h265"}, // 0 percent free is an encoder all the same
		{"NVIDIA RTX A3000 Laptop GPU", "8.6", all, true, Yes, "h264"},
		{"NVIDIA RTX PRO 6000 Blackwell", "12.0", all, true, Yes, "av1"},
		{"Tesla T4", "7.5", map[string]int{"h264": 100, "h265": 100}, true, Yes, "h264, h265"},
		{"NVIDIA Something New", "13.0", nil, true, No, "the driver says"},
		{"NVIDIA Something New", "13.0", nil, false, Unknown, "does not tell"},
	} {
		r, _ := taken(t, &fakeDriver{cards: []fakeCard{{title: c.name, cc: c.cc, free: c.free, refuses: c.refuses, open: Encodes{Count: 1}}}})
		g := r.GPUs[0]
		if g.NVENC.Present != c.want || !strings.Contains(g.NVENC.Reason, c.word) {
			t.Errorf("%s (%s): %s, %q; want %s with %q", c.name, c.cc, g.NVENC.Present, g.NVENC.Reason, c.want, c.word)
		}
		if (c.want == No) != (g.Sessions == nil) {
			t.Errorf("%s: sessions %v", c.name, g.Sessions)
		}
		if note := r.Note(); (note == "") != (c.want == Yes) {
			t.Errorf("%s: note %q", c.name, note)
		}
	}
}

func TestConsumerLimit(t *testing.T) {
	for version, want := range map[string]int{"470.256.02": 3, "525.147.05": 3, "530.41.03": 5, "545.29.06": 5, "550.54.15": 8, "580.95.05": 8, "590.48.01": 12, "600.1": 12, "": 8, "odd": 8} {
		if got := consumerLimit(version); got != want {
			t.Errorf("driver %q: %d sessions, want %d", version, got, want)
		}
	}
}
