package nvhttp

import (
	"context"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"fenrir/media"
	"fenrir/signaling/moonlight/pairing"
)

// What clients decide by. The version says that this is a host which speaks the
// extensions of today; a "latest" version that is greater would grey it out.
const (
	appVersion = "7.1.431.-1"
	gfeVersion = "3.23.0.74"
	noMAC      = "00:00:00:00:00:00"
	free       = "SUNSHINE_SERVER_FREE"
	busy       = "SUNSHINE_SERVER_BUSY"
	// maxLumaPixelsHEVC is the constant for "HEVC, whatever the size".
	maxLumaPixelsHEVC = "1869449984"
)

// serverInfo tells what this host is; over HTTPS to paired clients only, and to
// each what its person runs. Over HTTP nobody knows who asks.
func (s *Server) serverInfo(ctx context.Context, r *request) answer {
	mac, paired, running, state := noMAC, 0, uint32(0), free
	if r.secure {
		d, err := s.device(ctx, r)
		if err != nil {
			return s.unknown(err)
		}
		paired = 1
		if s.Host.MAC != "" {
			mac = s.Host.MAC
		}
		if now, ok := s.Sessions.Find(d.Person); ok && !s.quiet.is(d.ID) {
			apps, err := s.apps(ctx, d)
			if err != nil {
				return s.fault("list programs", err)
			}
			running, state = numberRunning(apps, now), busy
		}
	}
	modes, hevc := codecs(s.Host.Codecs())
	local := "127.0.0.1" // which clients do not remember
	if r.local.Is4() {
		local = r.local.String()
	}
	httpPort := int(s.HTTPAddr().Port())
	return ok(
		element{name: "hostname", text: orElse(strings.TrimSpace(s.Host.Name), "Fenrir")},
		element{name: "appversion", text: appVersion},
		element{name: "GfeVersion", text: gfeVersion},
		element{name: "uniqueid", text: s.Identity.UniqueID},
		number("HttpsPort", int(s.HTTPSAddr().Port())),
		number("ExternalPort", orElse(s.Host.ExternalPort, httpPort)),
		element{name: "MaxLumaPixelsHEVC", text: hevc},
		element{name: "mac", text: mac},
		element{name: "LocalIP", text: local},
		number("ServerCodecModeSupport", modes),
		number("PairStatus", paired),
		number("currentgame", running),
		element{name: "state", text: state},
	)
}

func orElse[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

// codecs says as a mask what is encoded here, 8 bits and 4:2:0. A client that
// sees 0 does not stream.
func codecs(of []media.Codec) (mask uint32, hevc string) {
	hevc = "0"
	for _, c := range of {
		switch c {
		case media.H264:
			mask |= 0x1
		case media.H265:
			mask |= 0x100
			hevc = maxLumaPixelsHEVC
		case media.AV1:
			mask |= 0x10000
		default: // no client knows it
		}
	}
	return mask, hevc
}

// phraseCert and phraseDone are the phases of pairing that have a name; the others
// are known by what they bring.
const (
	phraseCert = "getservercert"
	phraseDone = "pairchallenge"
)

// maxHex is the longest value of pairing, bytes.
const maxHex = 8 << 10

// pair is one of the five requests of pairing.
func (s *Server) pair(ctx context.Context, r *request) answer {
	c := pairing.Client{UniqueID: r.query.Get("uniqueid"), Address: r.from}
	value := func(name string) []byte { return unhex(r.query.Get(name), maxHex) }
	var name string // of what is answered
	var out []byte
	var err error
	switch phrase := r.query.Get("phrase"); {
	case phrase == phraseCert:
		name, out = "plaincert", s.Identity.PEM
		err = s.Pairings.Begin(ctx, pairing.Ask{Client: c, Name: r.query.Get("devicename"), Salt: value("salt"), Certificate: value("clientcert")})
	case phrase == phraseDone:
		if _, err := s.device(ctx, r); err != nil {
			return s.unknown(err)
		}
	case r.query.Has("clientchallenge"):
		name = "challengeresponse"
		out, err = s.Pairings.Challenge(c, value("clientchallenge"))
	case r.query.Has("serverchallengeresp"):
		name = "pairingsecret"
		out, err = s.Pairings.Respond(c, value("serverchallengeresp"))
	case r.query.Has("clientpairingsecret"):
		err = s.Pairings.Finish(ctx, c, value("clientpairingsecret"))
		s.logPairing(r.from, err)
		if errors.Is(err, pairing.ErrWrongPIN) {
			return ok(number("paired", 0)) // clients say what it means
		}
	default:
		err = pairing.ErrProtocol
	}
	switch {
	case err != nil:
		return s.notPaired(r.from, err)
	case name == "":
		return ok(number("paired", 1))
	}
	return ok(number("paired", 1), element{name: name, text: hex.EncodeToString(out)})
}

func (s *Server) logPairing(from netip.Addr, err error) {
	if err != nil {
		s.Log.Warn("moonlight device not paired", "from", from, "err", err)
		return
	}
	s.Log.Info("moonlight device paired", "from", from)
}

// failures are what pairing says to people; everything else is ours.
func failures() []error {
	return []error{
		pairing.ErrProtocol, pairing.ErrOrder, pairing.ErrNone, pairing.ErrWrongPIN, pairing.ErrGone, pairing.ErrExpired,
		pairing.ErrReplaced, pairing.ErrTooMany, pairing.ErrClosed,
	}
}

// notPaired answers a failure in any phase.
func (s *Server) notPaired(from netip.Addr, err error) answer {
	s.Log.Debug("moonlight pairing refused", "from", from, "err", err)
	var limited *pairing.RateError
	if errors.As(err, &limited) {
		return refusal(http.StatusServiceUnavailable, limited.Error(), number("paired", 0))
	}
	for _, known := range failures() {
		if errors.Is(err, known) {
			return refusal(http.StatusBadRequest, known.Error(), number("paired", 0))
		}
	}
	s.Log.Error("pair a moonlight device", "from", from, "err", err)
	return refusal(http.StatusInternalServerError, "something went wrong in the server", number("paired", 0))
}

// unpair ends a pairing under way. Over HTTP it can be anybody's, so that it does
// nothing else; over HTTPS a device may end the trust in itself.
func (s *Server) unpair(ctx context.Context, r *request) answer {
	s.Pairings.Cancel(pairing.Client{UniqueID: r.query.Get("uniqueid"), Address: r.from})
	if r.cert == nil {
		return ok()
	}
	d, err := s.Devices.Find(ctx, r.cert)
	if err == nil {
		err = s.Devices.Forget(ctx, d.ID)
		s.Log.Info("moonlight device unpaired itself", "device", d.ID, "from", r.from, "err", err)
	}
	if err != nil && !errors.Is(err, ErrUnknown) {
		return s.fault("forget a moonlight device", err)
	}
	return ok()
}
