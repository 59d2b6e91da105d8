package rtsp

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type known struct {
	Crypto []struct {
		Direction, Key, Plaintext, Wire string
		Seq                             uint32
	} `json:"rtsp_crypto"`
	Exchanges []struct{ Request, Response string }
}

func vectors(t testing.TB) (v known) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestSealedAsClientsDo(t *testing.T) {
	for _, c := range vectors(t).Crypto {
		raw, _ := hex.DecodeString(c.Key)
		wire, _ := hex.DecodeString(c.Wire)
		key := launch.Key(raw)
		if strings.HasPrefix(c.Direction, "client") {
			if got, seq, ok := open(key, wire); !ok || string(got) != c.Plaintext || seq != c.Seq {
				t.Errorf("opened %q, number %d", got, seq)
			}
			if n, err := sealedSize(wire); err != nil || n != len(wire) {
				t.Errorf("its size is %d of %d: %v", n, len(wire), err)
			}
		} else if got, err := seal(key, c.Seq, []byte(c.Plaintext)); err != nil || !bytes.Equal(got, wire) {
			t.Errorf("sealed %x, want %x: %v", got, wire, err)
		}
	}
}

var offer = Offer{Codecs: []media.Codec{media.H264, media.H265}, Supported: SealControl | SealVideo | SealAudio, Requested: SealControl}

// desk is a server with its clients.
type desk struct {
	t         *testing.T
	server    *Server
	addr      string
	announced chan Config
	refuse    error
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, announced: make(chan Config, 8)}
	d.server = &Server{
		Pending: &launch.Pending{}, Offer: offer, Ports: Ports{Video: 56998, Control: 56999, Audio: 57000}, Log: slog.New(slog.DiscardHandler),
		Announced: func(_ *launch.Launch, c Config) error {
			if d.refuse == nil {
				d.announced <- c
			}
			return d.refuse
		},
	}
	if err := d.server.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	d.addr = d.server.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.server.Run(ctx) }()
	t.Cleanup(func() {
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 300*time.Millisecond {
			t.Errorf("it ended after %v", took)
		}
		d.server.Pending.Close()
	})
	return d
}

func (d *desk) launch(device string, coreVer int) (*launch.Launch, launch.Key) {
	d.t.Helper()
	key := launch.Key([]byte((device + " sixteen bytes ok")[:16]))
	l := launch.New(launch.Terms{Device: device, CoreVer: coreVer, From: netip.MustParseAddr("127.0.0.1")}, key)
	if err := d.server.Pending.Add(l); err != nil {
		d.t.Fatal(err)
	}
	return l, key
}

// say sends bytes and reads the whole answer.
func (d *desk) say(b []byte) []byte {
	d.t.Helper()
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		d.t.Fatal(err)
	}
	out, err := io.ReadAll(c)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// ask sends a request sealed, as the client's number seq, and opens the answer.
func (d *desk) ask(key launch.Key, seq uint32, text string) string {
	d.t.Helper()
	aead, err := gcm(key)
	if err != nil {
		d.t.Fatal(err)
	}
	b := be.AppendUint32(be.AppendUint32(nil, sealedFlag|uint32(len(text))), seq)
	sealed := aead.Seal(nil, nonce(seq, 'C'), []byte(text), nil)
	out := d.say(append(append(b, sealed[len(text):]...), sealed[:len(text)]...))
	if len(out) == 0 {
		return ""
	}
	got, err := aead.Open(nil, nonce(be.Uint32(out[4:]), 'H'), append(bytes.Clone(out[sealHead:]), out[8:sealHead]...), nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(got)
}

// TestAsARealClientAsks replays the requests of one, with another's launch waiting.
func TestAsARealClientAsks(t *testing.T) {
	for name, coreVer := range map[string]int{"sealed": 1, "plain": 0} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			d.launch("another", 1)
			l, key := d.launch("one", coreVer)
			for i, x := range vectors(t).Exchanges {
				want := strings.NewReplacer("DEADBEEFCAFE", l.PingPayload, "0123456789abcdef", l.PingPayload, "3235779124", uintText(l.ConnectData)).Replace(x.Response)
				var got string
				if coreVer == 0 {
					got = string(d.say([]byte(x.Request)))
				} else {
					got = d.ask(key, uint32(i+1), x.Request)
				}
				if strings.HasPrefix(x.Request, "DESCRIBE") {
					for _, mark := range []string{"encryptionSupported:7", "encryptionRequested:1", "sprop-parameter-sets=AAAAAU", "surround-params=21101\n", "surround-params=660012453\n", "surround-params=88001245673\n"} {
						if !strings.Contains(got, mark) {
							t.Errorf("DESCRIBE lacks %s: %s", mark, got)
						}
					}
					if strings.Contains(got, "refPicInvalidation") || strings.Contains(got, "AV1/90000") {
						t.Errorf("DESCRIBE offers too much: %s", got)
					}
				} else if got != want {
					t.Errorf("%.10s is answered %q, want %q", x.Request, got, want)
				}
			}
			want := Config{Codec: media.H264, Width: 1280, Height: 720, FPS: 60, BudgetKbps: 10000, PacketSize: 992, MinParity: 2, Slices: 1, Seal: 7, Channels: 6, FrameMs: 5}
			if got := <-d.announced; got != want {
				t.Errorf("it wants %+v, want %+v", got, want)
			}
		})
	}
}

func uintText(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func TestOrder(t *testing.T) {
	d := newDesk(t)
	_, key := d.launch("one", 1)
	x := vectors(t).Exchanges
	announce, play := x[5].Request, x[6].Request
	seq := uint32(0)
	status := func(text string) string {
		seq++
		line, _, _ := strings.Cut(d.ask(key, seq, text), "\r\n")
		return strings.TrimPrefix(line, "RTSP/1.0 ")
	}
	for _, step := range []struct{ text, want string }{
		{play, "455 Method Not Valid in This State"},
		{announce, "455 Method Not Valid in This State"},
		{"TEARDOWN / RTSP/1.0\r\nCSeq: 1\r\n\r\n", "501 Not Implemented"},
		{"SETUP streamid=mic/0/0 RTSP/1.0\r\nCSeq: 1\r\n\r\n", "404 Not Found"},
		{"nonsense", "400 Bad Request"},
		{x[2].Request, "200 OK"}, {x[3].Request, "200 OK"}, {x[4].Request, "200 OK"},
		{strings.Replace(announce, "bitStreamFormat:0", "bitStreamFormat:2", 1), "451 Parameter Not Understood"},
		{strings.Replace(announce, "dynamicRangeMode:0", "dynamicRangeMode:1", 1), "451 Parameter Not Understood"},
		{strings.Replace(announce, "Wd:1280", "Wd:99999", 1), "451 Parameter Not Understood"},
		{strings.Replace(announce, "packetSize:992", "packetSize:991", 1), "451 Parameter Not Understood"},
		{announce, "200 OK"},
		{announce, "455 Method Not Valid in This State"},
		{play, "200 OK"}, {play, "200 OK"},
	} {
		if got := status(step.text); got != step.want {
			t.Errorf("%.40q: %s, want %s", step.text, got, step.want)
		}
	}
	if len(d.announced) != 1 {
		t.Errorf("announced %d times", len(d.announced))
	}
	// A request that came before is not answered again.
	if got := d.ask(key, seq, play); got != "" {
		t.Errorf("a repeated request is answered %q", got)
	}
}

func TestAStreamThatIsRefused(t *testing.T) {
	d := newDesk(t)
	d.refuse = errors.New("no place")
	_, key := d.launch("one", 1)
	var got string
	for i, x := range vectors(t).Exchanges[2:6] {
		got = d.ask(key, uint32(i+1), x.Request)
	}
	if !strings.HasPrefix(got, "RTSP/1.0 503 ") {
		t.Errorf("got %q", got)
	}
	if got = d.ask(key, 9, vectors(t).Exchanges[6].Request); !strings.HasPrefix(got, "RTSP/1.0 455 ") {
		t.Errorf("it plays all the same: %q", got)
	}
}

// TestAnAnswerIsWholeWhateverFollowsTheRequest has a client go on talking: the answer
// must not be lost in a reset.
func TestAnAnswerIsWholeWhateverFollowsTheRequest(t *testing.T) {
	d := newDesk(t)
	d.launch("old", 0)
	for range 20 {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(append([]byte("OPTIONS / RTSP/1.0\r\nCSeq: 1\r\n\r\n"), make([]byte, maxRequest)...)); err != nil {
			t.Fatal(err)
		}
		if out, err := io.ReadAll(c); err != nil || string(out) != "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n" {
			t.Fatalf("got %q, %v", out, err)
		}
		c.Close()
	}
}

func TestASealedRequestEndsWhereItSays(t *testing.T) {
	d := newDesk(t)
	v := vectors(t).Crypto[0]
	key, _ := hex.DecodeString(v.Key)
	if err := d.server.Pending.Add(launch.New(launch.Terms{Device: "one", CoreVer: 1}, launch.Key(key))); err != nil {
		t.Fatal(err)
	}
	wire, _ := hex.DecodeString(v.Wire)
	if out, err := read(bytes.NewReader(append(bytes.Clone(wire), 0))); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte more: %d bytes, %v", len(out), err)
	}
	if out := d.say(wire); len(out) == 0 {
		t.Error("the same without it is not answered")
	}
}

// TestRepeatsDoNotKeepALaunch: one that is asked for the same over and over ends when
// its time is over.
func TestRepeatsDoNotKeepALaunch(t *testing.T) {
	d := newDesk(t)
	d.server.Pending.For = 400 * time.Millisecond
	l, key := d.launch("one", 1)
	ended := time.After(5 * time.Second)
	for seq := uint32(1); ; seq++ {
		d.ask(key, seq, vectors(t).Exchanges[2].Request)
		select {
		case <-l.Done():
			return
		case <-ended:
			t.Fatalf("it still waits after %d requests", seq)
		default:
		}
	}
}

func TestStrangers(t *testing.T) {
	d := newDesk(t)
	d.launch("one", 1)
	if got := d.say([]byte("OPTIONS / RTSP/1.0\r\nCSeq: 1\r\n\r\n")); !bytes.HasPrefix(got, []byte("RTSP/1.0 404 ")) {
		t.Errorf("a plain request to a sealed launch: %q", got)
	}
	if got := d.ask(launch.Key([]byte("nobody's key....")), 1, "OPTIONS / RTSP/1.0\r\nCSeq: 1\r\n\r\n"); got != "" {
		t.Errorf("with nobody's key: %q", got)
	}
	for _, garbage := range [][]byte{bytes.Repeat([]byte{'x'}, maxRequest+1), {0xFF, 0xFF, 0xFF, 0xFF}, append([]byte("OPTIONS / RTSP/1.0\r\nContent-length: 99999999\r\n\r\n"), 'x')} {
		c, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(garbage)
		if out, _ := io.ReadAll(c); len(out) > 0 {
			t.Errorf("%.10q is answered %q", garbage, out)
		}
		c.Close()
	}
	// Clients look whether the port can be reached.
	c, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := len(d.server.Pending.All()); n != 1 {
		t.Errorf("%d launches wait", n)
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct{ budget, channels, percent, want int }{{10000, 2, 20, 7641}, {1000, 2, 20, 601}, {40000, 8, 20, 32065}} {
		got := Config{BudgetKbps: c.budget, Channels: c.channels}.VideoKbps(c.percent)
		if got != c.want {
			t.Errorf("%+v: %d kbit/s", c, got)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, x := range vectors(f).Exchanges {
		f.Add([]byte(x.Request))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := whole(b); err == nil && n > 0 && n <= len(b) {
			if _, err := parse(b[:n]); err != nil {
				t.Fatalf("%q is whole and no request: %v", b[:n], err)
			}
		}
		c, err := offer.configure(string(b))
		if err == nil && (c.Width < leastSide || c.FPS < 1 || c.VideoKbps(50) < 1 || c.Sound().Check() != nil) {
			t.Fatalf("%q makes %+v", b, c)
		}
	})
}
