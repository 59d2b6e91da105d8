package nvhttp

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"testing"

	"fenrir/media"
	"fenrir/signaling/moonlight/launch"
	"fenrir/signaling/moonlight/pairing"
)

const rikey = "rikey=000102030405060708090A0b0c0d0e0f&rikeyid=-2"

func TestLaunchResumeCancel(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv, phone, other := trusted(t, d, keys()[0], ada), trusted(t, d, keys()[1], ada), trusted(t, d, keys()[2], bob)
	list := tv.xml(t, true, "/applist")
	zoo, chess := id(t, list, "Zoo & <more>"), id(t, list, "Chess")
	full := fmt.Sprintf("/launch?appid=%d&mode=1921x1081x120&additionalStates=1&sops=0&%s&localAudioPlayMode=1&surroundAudioInfo=4128774&remoteControllersBitmap=1&gcmap=1&gcpersist=0&hdrMode=1&corever=1&continuousAudio=1", zoo, rikey)
	golden(t, "launch", tv.get(t, true, full), `<root status_code="200"><sessionUrl0>rtspenc://127.0.0.1:48010</sessionUrl0><gamesession>1</gamesession></root>`)
	all := d.launches.All()
	if len(all) != 1 {
		t.Fatalf("%d launches wait", len(all))
	}
	want := launch.Terms{
		Device: pairing.KeyID(tv.cert), Person: ada, Session: "s1", App: int(zoo), Width: 1920, Height: 1080, FPS: 120, Channels: 6, ChannelMask: 0x3F,
		PlayHost: true, ContinuousAudio: true, HDR: true, CoreVer: 1, KeyID: 0xFFFFFFFE, From: netip.MustParseAddr("127.0.0.1"),
	}
	if all[0].Terms != want {
		t.Errorf("got %+v\nwant %+v", all[0].Terms, want)
	}
	if k, ok := all[0].Key(); !ok || k != (launch.Key{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}) {
		t.Error("its key is another")
	}
	if o := d.house.sessions[0].order; o.Program != "zoo" || o.Width != 1920 || o.FPS != 120 || o.Device.Name != "tv" {
		t.Errorf("ordered: %+v", o)
	}
	// Another device of hers comes in, by an old client without parameters of today.
	golden(t, "resume", phone.get(t, true, fmt.Sprintf("/resume?appid=%d&%s", chess, rikey)), `<root status_code="200"><sessionUrl0>rtsp://127.0.0.1:48010</sessionUrl0><resume>1</resume></root>`)
	if got := d.launches.All(); len(got) != 2 || d.started != 1 {
		t.Errorf("%d launches wait, %d sessions were started", len(got), d.started)
	}
	for _, l := range d.launches.All() {
		if l.Device == pairing.KeyID(phone.cert) && (!l.Resume || l.Session != "s1" || l.Width != 1920 || l.Channels != 2 || l.CoreVer != 0) {
			t.Errorf("resumed with %+v", l.Terms)
		}
	}
	golden(t, "the same once more", phone.get(t, true, full), `<root status_code="200"><sessionUrl0>rtspenc://127.0.0.1:48010</sessionUrl0><gamesession>1</gamesession></root>`)
	golden(t, "another program", phone.get(t, true, fmt.Sprintf("/launch?appid=%d&%s&localAudioPlayMode=0", chess, rikey)),
		`<root status_code="400" status_message="Title of zoo is running: quit it first."><gamesession>0</gamesession></root>`)
	golden(t, "another person's resume", other.get(t, true, "/resume?"+rikey), `<root status_code="503" status_message="Nothing is running."><resume>0</resume></root>`)
	golden(t, "another person's cancel", other.get(t, true, "/cancel"), `<root status_code="200"><cancel>1</cancel></root>`)
	golden(t, "another person's program", other.get(t, true, full), `<root status_code="404" status_message="There is no such program."><gamesession>0</gamesession></root>`)
	if d.started != 1 || len(d.ended) != 0 {
		t.Errorf("%d started, %v ended", d.started, d.ended)
	}
	golden(t, "cancel", phone.get(t, true, "/cancel"), `<root status_code="200"><cancel>1</cancel></root>`)
	for _, c := range []*client{tv, phone} {
		if r := c.xml(t, true, "/serverinfo"); r.text["currentgame"] != "0" || r.text["state"] != free {
			t.Errorf("after it: %v", r.text)
		}
	}
	if got := strings.Join(d.ended, ","); got != "s1 "+media.CauseUser {
		t.Errorf("ended: %s", got)
	}
	golden(t, "cancel again", tv.get(t, true, "/cancel"), `<root status_code="200"><cancel>1</cancel></root>`)
}

func TestWhoHasQuitIsToldThatNothingRuns(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv, phone := trusted(t, d, keys()[0], ada), trusted(t, d, keys()[1], ada)
	for range 2 {
		if _, err := (sessions{d.house}).Start(t.Context(), Order{Device: Device{Person: ada}, Program: "zoo"}); err != nil {
			t.Fatal(err)
		}
	}
	tv.xml(t, true, "/cancel")
	game := func(c *client) string { return c.xml(t, true, "/serverinfo").text["currentgame"] }
	if game(tv) != "0" || game(phone) == "0" {
		t.Errorf("the one that quit is told of %s, the other of %s", game(tv), game(phone))
	}
	if r := tv.xml(t, true, "/resume?"+rikey); r.status != 200 || game(tv) == "0" {
		t.Errorf("it resumes the other: %v, and is told of %s", r, game(tv))
	}
	if len(d.house.sessions) != 1 || len(d.ended) != 1 {
		t.Errorf("ended: %v", d.ended)
	}
}

func TestTwoDevicesThatLaunchAtOnceShareASession(t *testing.T) {
	t.Parallel()
	d := open(t)
	path := fmt.Sprintf("/launch?appid=%d&%s&localAudioPlayMode=0&corever=1", id(t, trusted(t, d, keys()[0], ada).xml(t, true, "/applist"), "Chess"), rikey)
	var wg sync.WaitGroup
	for _, k := range keys() {
		c := trusted(t, d, k, ada)
		wg.Go(func() {
			if r := c.xml(t, true, path); r.status != 200 {
				t.Errorf("%v", r)
			}
		})
	}
	wg.Wait()
	if d.started != 1 || len(d.launches.All()) != 3 {
		t.Errorf("%d sessions, %d launches", d.started, len(d.launches.All()))
	}
}

func TestALaunchThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	d := open(t)
	tv := trusted(t, d, keys()[0], ada)
	n := id(t, tv.xml(t, true, "/applist"), "Chess")
	path := fmt.Sprintf("/launch?appid=%d&%s&localAudioPlayMode=0", n, rikey)
	d.change(func() { d.broken = media.NewCause(media.CauseTooMany, "all 8 places of this server are taken") })
	golden(t, "no place", tv.get(t, true, path), `<root status_code="503" status_message="All 8 places of this server are taken."></root>`)
	d.change(func() { d.broken = nil })
	d.launches.Close()
	golden(t, "nobody is let in", tv.get(t, true, path), `<root status_code="503" status_message="No more launches are taken."><gamesession>0</gamesession></root>`)
	if len(d.house.sessions) != 0 || d.started != 1 {
		t.Errorf("a session is left that nobody comes to: %v", d.house.sessions)
	}
	for _, q := range []string{
		"", "appid=1", "appid=1&localAudioPlayMode=0", "appid=1&" + rikey, "localAudioPlayMode=0&" + rikey,
	} {
		if r := tv.xml(t, true, "/launch?"+q); r.status != 400 || r.text["gamesession"] != "0" {
			t.Errorf("%q: %v", q, r)
		}
	}
	if r := tv.xml(t, true, "/resume?rikey=00"); r.status != 400 || r.text["resume"] != "0" || strings.Contains(r.message, "00") {
		t.Errorf("resume: %v", r)
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	parse := func(more string) (start, error) {
		q, err := url.ParseQuery(rikey + "&appid=5&" + more)
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range q {
			q[k] = v[len(v)-1:] // the last one counts here
		}
		return parseStart(q)
	}
	for more, want := range map[string]launch.Terms{
		"":                 {KeyID: 0xFFFFFFFE, Width: 1920, Height: 1080, FPS: 60, Channels: 2, ChannelMask: 3},
		"mode=1280x721x0":  {KeyID: 0xFFFFFFFE, Width: 1280, Height: 720, FPS: 60, Channels: 2, ChannelMask: 3},
		"rikeyid=16909060": {KeyID: 16909060, Width: 1920, Height: 1080, FPS: 60, Channels: 2, ChannelMask: 3},
		"rikeyid=4294967295&surroundAudioInfo=104792072&surroundParams=85301245673": {KeyID: 0xFFFFFFFF, Width: 1920, Height: 1080, FPS: 60, Channels: 8, ChannelMask: 0x63F, SurroundParams: "85301245673"},
		"surroundAudioInfo=196610&corever=3&unknown=%20&gcmap=x":                    {KeyID: 0xFFFFFFFE, Width: 1920, Height: 1080, FPS: 60, Channels: 2, ChannelMask: 3, CoreVer: 3},
	} {
		got, err := parse(more)
		if err != nil || got.terms != want || got.app != 5 {
			t.Errorf("%s: got %+v, %v\nwant %+v", more, got, err, want)
		}
	}
	for _, more := range []string{
		"rikey=", "rikey=000102030405060708090A0b0c0d0e0", "rikey=000102030405060708090A0b0c0d0e0f00", "rikey=zz0102030405060708090A0b0c0d0e0f",
		"rikeyid=", "rikeyid=x", "rikeyid=4294967296", "rikeyid=-2147483649", "rikeyid=1.5",
		"appid=0", "appid=-1", "appid=2147483648", "appid=x", "mode=x", "mode=1920x1080", "mode=1920x1080x60x1", "mode=-1x1080x60", "mode=63x63x60",
		"mode=20000x1080x60", "mode=1920x1080x1001", "mode=99999999999x1x1", "surroundAudioInfo=x", "surroundAudioInfo=1", "surroundAudioInfo=196611",
		"surroundParams=642a", "surroundParams=642012453642012453", "corever=x", "corever=-1",
	} {
		if got, err := parse(more); err == nil || got != (start{}) {
			t.Errorf("%s: %+v, %v", more, got, err)
		}
	}
}

func FuzzParseStart(f *testing.F) {
	f.Add(rikey + "&appid=5&mode=1280x720x60&surroundAudioInfo=4128774&corever=1")
	f.Add("rikey=%zz;mode=1x1x1")
	f.Fuzz(func(t *testing.T, query string) {
		q, _ := url.ParseQuery(query) // what can be read of it, as a request has it
		s, err := parseStart(q)
		if err != nil {
			if s != (start{}) {
				t.Fatal("half a start")
			}
			return
		}
		if k := s.terms; k.Width%2 != 0 || k.Height < minEdge || k.FPS < 1 || k.FPS > maxFPS || len(k.SurroundParams) > 11 {
			t.Fatalf("%+v", k)
		}
	})
}

// FuzzAnswer sends what the query of a request may be through all handlers that
// need no session, and reads what they answer strictly.
func FuzzAnswer(f *testing.F) {
	f.Add("/pair", "phrase=getservercert&salt=00&clientcert=00")
	f.Add("/pair", "uniqueid=%ff&clientchallenge=zz")
	f.Add("/applist", "a=b;c")
	f.Add("/x\x00", "")
	d := open(f)
	f.Fuzz(func(t *testing.T, path, query string) {
		q, _ := url.ParseQuery(query)
		a := d.answer(t.Context(), path, &request{query: q, from: netip.IPv6Loopback(), local: netip.IPv6Loopback()})
		if _, err := read(a.body); err != nil {
			t.Fatal(err)
		}
	})
}

func TestFaultsKeepTheirDetail(t *testing.T) {
	t.Parallel()
	d := open(t)
	if out := string(d.fault("test", errors.New("secret")).body); strings.Contains(out, "secret") {
		t.Error(out)
	}
}
