package nvhttp

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"fenrir/signaling/moonlight/launch"
)

// Bounds of what clients may ask for.
const (
	minEdge, maxEdge = 64, 16384 // pixels
	maxFPS           = 1000
)

// defaultMode is for clients that name none. What binds comes later, by RTSP.
const defaultMode = "1920x1080x60"

// start is what /launch and /resume ask for.
type start struct {
	app   uint32 // 0: none named
	terms launch.Terms
	key   launch.Key
}

// parseStart reads the parameters of /launch and /resume. What it does not know
// it does not look at. Its errors are sentences for people.
func parseStart(q url.Values) (start, error) {
	var s start
	var err error
	if s.key, err = parseKey(q.Get("rikey")); err != nil {
		return start{}, err
	}
	if s.terms.KeyID, err = parseKeyID(q.Get("rikeyid")); err != nil {
		return start{}, err
	}
	if v := q.Get("appid"); v != "" {
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil || n == 0 {
			return start{}, fmt.Errorf("appid is no number of a program")
		}
		s.app = uint32(n)
	}
	if err := parseMode(&s.terms, q.Get("mode")); err != nil {
		return start{}, err
	}
	if err := parseSurround(&s.terms, q.Get("surroundAudioInfo"), q.Get("surroundParams")); err != nil {
		return start{}, err
	}
	s.terms.PlayHost = q.Get("localAudioPlayMode") == "1"
	s.terms.ContinuousAudio = q.Get("continuousAudio") == "1"
	s.terms.HDR = q.Get("hdrMode") == "1"
	if v := q.Get("corever"); v != "" {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return start{}, fmt.Errorf("corever is no version")
		}
		s.terms.CoreVer = int(n)
	}
	return s, nil
}

func parseKey(v string) (key launch.Key, err error) {
	if len(v) != 2*len(key) {
		return launch.Key{}, fmt.Errorf("rikey has %d digits, not %d", len(v), 2*len(key))
	}
	if _, err := hex.Decode(key[:], []byte(v)); err != nil {
		return launch.Key{}, fmt.Errorf("rikey is not hexadecimal") // the error would quote it
	}
	return key, nil
}

// parseKeyID reads a number of 32 bits that clients write with a sign.
func parseKeyID(v string) (uint32, error) {
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < -1<<31 || n >= 1<<32 {
		return 0, fmt.Errorf("rikeyid is no number of 32 bits")
	}
	return uint32(n), nil // two's complement is what is wanted
}

// parseMode reads WxHxFPS. Sizes are made even, as codecs want them.
func parseMode(t *launch.Terms, v string) error {
	if v == "" {
		v = defaultMode
	}
	var n [3]int
	parts := strings.Split(v, "x")
	if len(parts) != len(n) {
		return fmt.Errorf("mode is not width x height x rate")
	}
	for i, p := range parts {
		u, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return fmt.Errorf("mode is not width x height x rate")
		}
		n[i] = int(u)
	}
	if n[2] == 0 {
		n[2] = 60 // what clients say to hosts that cannot do more
	}
	t.Width, t.Height, t.FPS = n[0]&^1, n[1]&^1, n[2]
	if t.Width < minEdge || t.Width > maxEdge || t.Height < minEdge || t.Height > maxEdge || t.FPS > maxFPS {
		return fmt.Errorf("%dx%d at %d a second is out of bounds", n[0], n[1], n[2])
	}
	return nil
}

// parseSurround reads the layout of sound: mask and count in one number, stereo
// when there is none.
func parseSurround(t *launch.Terms, info, params string) error {
	t.Channels, t.ChannelMask = 2, 0x3
	if info != "" {
		n, err := strconv.ParseUint(info, 10, 32)
		if err != nil {
			return fmt.Errorf("surroundAudioInfo is no number")
		}
		t.Channels, t.ChannelMask = int(n&0xFFFF), uint32(n>>16)
	}
	switch [2]uint32{uint32(t.Channels), t.ChannelMask} {
	case [2]uint32{2, 0x3}, [2]uint32{6, 0x3F}, [2]uint32{8, 0x63F}:
	default:
		return fmt.Errorf("%d channels of sound in the places %#x are not supported", t.Channels, t.ChannelMask)
	}
	if len(params) > 3+8 || strings.Trim(params, "0123456789") != "" {
		return fmt.Errorf("surroundParams is no layout of sound")
	}
	t.SurroundParams = params
	return nil
}

// unhex reads a parameter of at most most bytes in hexadecimal digits of either
// case; nil is none.
func unhex(v string, most int) []byte {
	if len(v) > 2*most {
		return nil
	}
	b, err := hex.DecodeString(v)
	if err != nil {
		return nil
	}
	return b
}
