// Package launch is what /launch or /resume of a Moonlight client negotiated,
// and the set of those that their clients have not picked up yet. The layers of
// the door (RTSP, control, media ports) find out by it whom they talk to.
//
// It imports media.
package launch

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"fenrir/media"
)

// Key is the AES-128 key of everything in one stream (rikey). It never shows
// itself: however it is printed, logged or marshalled, it says "hidden". In an
// unexported field of a struct that is printed whole fmt cannot ask it, so such
// a struct says for itself what may be seen.
type Key [16]byte

const hidden = "hidden"

// Format implements fmt.Formatter, for all verbs.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler.
func (Key) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Terms are what the client asked for, and who it is. Size and rate are a
// forecast: what binds comes with ANNOUNCE.
type Terms struct {
	Device  string          // id of the paired device
	Person  media.PersonRef // whom the device belongs to
	Session string          // id of the session that it will show
	App     int             // id in the list of programs
	Resume  bool            // it came by /resume

	Width, Height, FPS int    // from mode; pixels, frames a second
	Channels           int    // of sound: 2, 6 or 8
	ChannelMask        uint32 // 0x3, 0x3F or 0x63F
	SurroundParams     string // the client's own Opus layout, "" for none
	PlayHost           bool   // the host is to sound as well
	ContinuousAudio    bool   // silence is sent, not left out
	HDR                bool   // the client offers a format of 10 bits

	CoreVer int        // 0: plain RTSP and legacy control only
	KeyID   uint32     // rikeyid; where the IVs of sound begin
	From    netip.Addr // where the request came from; finds clients with CoreVer 0, and nobody else
}

// Launch is one stream to be, from the answer to /launch until the stream has
// ended. Its fields do not change. Its methods do not block.
type Launch struct {
	Terms
	PingPayload string    // 16 characters that come back in each ping (X-SS-Ping-Payload)
	ConnectData uint32    // not 0; comes back in the connect command of the control stream (X-SS-Connect-Data)
	Created     time.Time // when it was made

	done chan struct{}
	mu   sync.Mutex // guards what follows
	key  Key
	over bool
}

// New makes a launch with fresh random identifiers. Whoever holds it at last,
// the pending set or the stream, calls End.
func New(t Terms, key Key) *Launch {
	t.From = t.From.Unmap().WithZone("")
	var random [12]byte
	_, _ = rand.Read(random[:]) // it never fails, it says
	return &Launch{
		Terms:       t,
		PingPayload: hex.EncodeToString(random[:8]),
		ConnectData: max(binary.LittleEndian.Uint32(random[8:]), 1),
		Created:     time.Now(),
		done:        make(chan struct{}),
		key:         key,
	}
}

// Key is the key, and whether the launch still has it: after End it has not.
func (l *Launch) Key() (key Key, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.key, !l.over
}

// Done is closed by End.
func (l *Launch) Done() <-chan struct{} { return l.done }

// End forgets the key. It is idempotent.
func (l *Launch) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	l.over = true
	l.key = Key{}
	close(l.done)
}

// ended tells whether End was called.
func (l *Launch) ended() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// String names device, session and what was asked; no secret.
func (l *Launch) String() string {
	return fmt.Sprintf("launch of app %d in session %s by device %s, %dx%dx%d", l.App, l.Session, l.Device, l.Width, l.Height, l.FPS)
}

// Format implements fmt.Formatter, so that no verb tells more than String.
func (l *Launch) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, l.String()) }

// LogValue implements slog.LogValuer.
func (l *Launch) LogValue() slog.Value {
	return slog.GroupValue(
		slog.String("device", l.Device), slog.String("session", l.Session), slog.Int("app", l.App),
		slog.Int("width", l.Width), slog.Int("height", l.Height), slog.Int("fps", l.FPS), slog.Bool("resume", l.Resume))
}
