package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"fenrir/media"
)

// Version of the websocket protocol that this package speaks, and the oldest
// one that it still speaks.
const (
	Version    = 1
	MinVersion = 1
)

// Subprotocol is the websocket subprotocol that client and server agree on.
const Subprotocol = "fenrir.v1"

// Limits of what comes over the websocket.
const (
	MaxMessage   = 64 << 10 // bytes of one message
	MaxSDP       = 60 << 10 // bytes of a session description
	MaxCandidate = 1024     // bytes of a candidate line
	MaxKbps      = 1_000_000
)

// Message is one websocket message. Type is its `type` field.
type Message interface{ Type() string }

// Hello opens the conversation. C→S, within 5 s of the connection.
type Hello struct {
	Version  int           `json:"version"`           // highest version that the client speaks
	Client   string        `json:"client"`            // name and version, for the log; at most 128 bytes
	Peer     string        `json:"peer"`              // the tab's own id, 8…64 of [A-Za-z0-9_-]; empty: the server makes one
	Codecs   []media.Codec `json:"codecs"`            // video codecs that it decodes, most wanted first; 1…16, unknown names are skipped
	MaxKbps  int           `json:"max_kbps,omitzero"` // the client's cap, kbit/s; 0: none
	ViewOnly bool          `json:"view_only,omitzero"`
}

// Welcome answers Hello. S→C.
type Welcome struct {
	Version     int                `json:"version"` // the version spoken from here on: the lower of both
	Peer        string             `json:"peer"`
	Codec       media.Codec        `json:"codec"` // the one video codec that will be sent
	HeartbeatMs int                `json:"heartbeat_ms"`
	Grant       media.GrantBits    `json:"grant"`
	ICEServers  []ICEServer        `json:"ice_servers"`
	Session     media.SessionState `json:"session"`
}

// ICEServer is one STUN or TURN server, in the form of RTCIceServer.
type ICEServer struct {
	URLs       []string `json:"urls"`
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// Offer is the client's session description. C→S. A later one with a higher ID
// restarts ICE on the same connection.
type Offer struct {
	ID  uint32 `json:"id"`
	SDP string `json:"sdp"`
}

// Answer answers the Offer with the same ID. S→C, within 2 s.
type Answer struct {
	ID  uint32 `json:"id"`
	SDP string `json:"sdp"`
}

// Candidate is one trickled ICE candidate. Both ways. Candidate "" says that
// there are no more.
type Candidate struct {
	Candidate        string  `json:"candidate"`
	SDPMid           *string `json:"sdp_mid,omitempty"`
	SDPMLineIndex    *uint16 `json:"sdp_mline_index,omitempty"`
	UsernameFragment *string `json:"username_fragment,omitempty"`
}

// State tells a change of the session. S→C.
type State struct {
	Session media.SessionState `json:"session"`
}

// Settings changes the client's wishes. C→S.
type Settings struct {
	MaxKbps int `json:"max_kbps"` // cap for this client, kbit/s; 0: none
}

// Painted tells how many frames were really painted so far, and how long those
// since the last message took. C→S, about once a second.
type Painted struct {
	Frames       uint64 `json:"frames"`
	RTPTimestamp uint32 `json:"rtp_timestamp"` // of the last one
	Visible      bool   `json:"visible"`       // what arrives should be painted: the picture is on a screen and the client can count
	Legs         *Legs  `json:"legs,omitempty"`
}

// MaxLegs is how many values of one leg a Painted tells of at most.
const MaxLegs = 256

// maxLegMs is the longest leg that is believed.
const maxLegMs = 60_000

// Legs are the ways of frames and inputs that the page alone can measure, a
// value for each, in milliseconds.
type Legs struct {
	Network []float64 `json:"network,omitempty"` // of a frame: last packet sent → received
	Buffer  []float64 `json:"buffer,omitempty"`  // received → handed to the compositor, without decoding
	Decode  []float64 `json:"decode,omitempty"`
	Paint   []float64 `json:"paint,omitempty"`   // handed to the compositor → on the screen
	Picture []float64 `json:"picture,omitempty"` // the whole way: change on the display → on the screen
	Input   []float64 `json:"input,omitempty"`   // of an input: sent → read by the server
	Program []float64 `json:"program,omitempty"` // injected → first change on the display
	Photon  []float64 `json:"photon,omitempty"`  // the whole way: sent → the first change is on the screen
}

// All are the legs by the names that they have on the wire.
func (l *Legs) All() [8]struct {
	Name   string
	Values *[]float64
} {
	return [8]struct {
		Name   string
		Values *[]float64
	}{
		{"network", &l.Network}, {"buffer", &l.Buffer}, {"decode", &l.Decode}, {"paint", &l.Paint}, {"picture", &l.Picture},
		{"input", &l.Input}, {"program", &l.Program}, {"photon", &l.Photon},
	}
}

// Bye ends the conversation and says why; the connection is closed after it.
// Both ways.
type Bye struct {
	Code   string `json:"code"` // a media.Cause… code
	Detail string `json:"detail,omitempty"`
	Output string `json:"output,omitempty"` // last lines of the program
	Retry  bool   `json:"retry"`            // the client may come back by itself
}

// Error tells of something that went wrong and ends nothing. S→C.
type Error struct {
	Code   string `json:"code"`
	Detail string `json:"detail,omitempty"`
}

// Type of each message.
func (Hello) Type() string     { return "hello" }
func (Welcome) Type() string   { return "welcome" }
func (Offer) Type() string     { return "offer" }
func (Answer) Type() string    { return "answer" }
func (Candidate) Type() string { return "candidate" }
func (State) Type() string     { return "state" }
func (Settings) Type() string  { return "settings" }
func (Painted) Type() string   { return "painted" }
func (Bye) Type() string       { return "bye" }
func (Error) Type() string     { return "error" }

// ErrMessage is wrapped by every error of ParseClient and ParseServer: the
// other side sent what the protocol forbids. Its text may be told to it.
var ErrMessage = errors.New("bad message")

// ParseClient reads a message from a client: Hello, Offer, Candidate, Settings,
// Painted or Bye. It is strict about types, sizes and ranges. Unknown fields are
// ignored, so that later clients can say more to earlier servers; an unknown
// type is an error, because ignoring it would leave the client waiting.
func ParseClient(b []byte) (Message, error) {
	typ, err := typeOf(b)
	if err != nil {
		return nil, err
	}
	switch typ {
	case "hello":
		return parse(b, checkHello)
	case "offer":
		return parse(b, checkOffer)
	case "candidate":
		return parse(b, checkCandidate)
	case "settings":
		return parse(b, func(m *Settings) error { return checkKbps(m.MaxKbps) })
	case "painted":
		return parse(b, checkPainted)
	case "bye":
		return parse(b, checkBye)
	}
	return nil, fmt.Errorf("%w: unknown type %.32q", ErrMessage, typ)
}

// ParseServer reads a message from the server: Welcome, Answer, Candidate,
// State, Bye or Error. Clients in Go use it.
func ParseServer(b []byte) (Message, error) {
	typ, err := typeOf(b)
	if err != nil {
		return nil, err
	}
	switch typ {
	case "welcome":
		return parse(b, func(*Welcome) error { return nil })
	case "answer":
		return parse(b, func(m *Answer) error { return checkSDP(m.ID, m.SDP) })
	case "candidate":
		return parse(b, checkCandidate)
	case "state":
		return parse(b, func(*State) error { return nil })
	case "bye":
		return parse(b, checkBye)
	case "error":
		return parse(b, func(*Error) error { return nil })
	}
	return nil, fmt.Errorf("%w: unknown type %.32q", ErrMessage, typ)
}

// Encode writes m with its `type` first. The error is that of json.Marshal;
// for the types of this package it does not happen.
func Encode(m Message) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type(), err)
	}
	out := make([]byte, 0, len(body)+len(m.Type())+12)
	out = append(out, `{"type":"`...)
	out = append(out, m.Type()...)
	out = append(out, '"')
	if len(body) > 2 {
		out = append(out, ',')
	}
	return append(out, body[1:]...), nil
}

// Negotiate picks the version that both sides speak: the lower of both
// highest. A client older than MinVersion gets a *media.Cause with code
// CauseVersion; one that is newer than the server decides by itself whether it
// can go on with the version in Welcome.
func Negotiate(client int) (int, error) {
	if client < MinVersion {
		return 0, media.NewCause(media.CauseVersion, "this server speaks versions %d to %d of the protocol, the client %d", MinVersion, Version, client)
	}
	return min(client, Version), nil
}

func typeOf(b []byte) (string, error) {
	if len(b) > MaxMessage {
		return "", fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrMessage, len(b), MaxMessage)
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("%w: not UTF-8", ErrMessage)
	}
	var head struct {
		Type *string `json:"type"`
	}
	if err := json.Unmarshal(b, &head); err != nil {
		return "", fmt.Errorf("%w: not a JSON object", ErrMessage)
	}
	if head.Type == nil {
		return "", fmt.Errorf("%w: no type", ErrMessage)
	}
	return *head.Type, nil
}

func parse[M Message](b []byte, check func(*M) error) (Message, error) {
	var m M
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMessage, m.Type(), err)
	}
	if err := check(&m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMessage, m.Type(), err)
	}
	return m, nil
}

var peerID = regexp.MustCompile(`^[A-Za-z0-9_-]{8,64}$`)

// ValidPeerID tells whether id may name a peer: 8…64 of [A-Za-z0-9_-].
func ValidPeerID(id string) bool { return peerID.MatchString(id) }

func checkHello(m *Hello) error {
	if len(m.Client) > 128 {
		return errors.New("client is longer than 128 bytes")
	}
	if m.Peer != "" && !ValidPeerID(m.Peer) {
		return errors.New("peer must be 8 to 64 of letters, digits, _ and -")
	}
	if len(m.Codecs) > 16 {
		return errors.New("more than 16 codecs")
	}
	known := m.Codecs[:0]
	for _, c := range m.Codecs {
		switch c {
		case media.H264, media.H265, media.AV1, media.VP8, media.VP9:
			known = append(known, c)
		}
	}
	if len(known) == 0 {
		return errors.New("codecs names no codec that this server knows")
	}
	m.Codecs = known
	return checkKbps(m.MaxKbps)
}

func checkKbps(kbps int) error {
	if kbps < 0 || kbps > MaxKbps {
		return fmt.Errorf("max_kbps must be 0 to %d", MaxKbps)
	}
	return nil
}

func checkOffer(m *Offer) error { return checkSDP(m.ID, m.SDP) }

func checkSDP(id uint32, sdp string) error {
	switch {
	case id == 0:
		return errors.New("id must be 1 or more")
	case sdp == "":
		return errors.New("sdp is empty")
	case len(sdp) > MaxSDP:
		return fmt.Errorf("sdp is longer than %d bytes", MaxSDP)
	}
	return nil
}

func checkCandidate(m *Candidate) error {
	switch {
	case len(m.Candidate) > MaxCandidate:
		return fmt.Errorf("candidate is longer than %d bytes", MaxCandidate)
	case strings.ContainsAny(m.Candidate, "\r\n\x00"):
		return errors.New("candidate has a line break")
	case m.SDPMid != nil && len(*m.SDPMid) > 32:
		return errors.New("sdp_mid is longer than 32 bytes")
	case m.SDPMLineIndex != nil && *m.SDPMLineIndex > 63:
		return errors.New("sdp_mline_index is above 63")
	case m.UsernameFragment != nil && len(*m.UsernameFragment) > 256:
		return errors.New("username_fragment is longer than 256 bytes")
	}
	return nil
}

func checkPainted(m *Painted) error {
	if m.Legs == nil {
		return nil
	}
	for _, leg := range m.Legs.All() {
		if len(*leg.Values) > MaxLegs {
			return fmt.Errorf("%s has more than %d values", leg.Name, MaxLegs)
		}
		for _, ms := range *leg.Values {
			if ms < 0 || ms > maxLegMs {
				return fmt.Errorf("%s must be 0 to %d ms", leg.Name, maxLegMs)
			}
		}
	}
	return nil
}

func checkBye(m *Bye) error {
	if len(m.Code) > 64 || len(m.Detail) > 1024 || len(m.Output) > 4096 {
		return errors.New("code, detail or output is too long")
	}
	return nil
}
