package x11

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"fenrir/media"
)

const (
	magicCookie = "MIT-MAGIC-COOKIE-1"

	familyInternet  = 0
	familyInternet6 = 6
	familyLocal     = 256
	familyWild      = 65535

	maxAuthority = 1 << 20 // bytes read of an authority file
)

// entry is one entry of an Xauthority file.
type entry struct {
	family                uint16
	address, number, name string
	data                  []byte
}

// AuthorityEntry returns the content of an Xauthority file that makes every
// display take cookie, which is 32 hex digits. It is valid for an X server's
// -auth option too.
func AuthorityEntry(cookie string) ([]byte, error) {
	data, err := parseCookie(cookie)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint16(nil, familyWild)
	for _, field := range []string{"", "", magicCookie, string(data)} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(field)))
		b = append(b, field...)
	}
	return b, nil
}

func parseCookie(cookie string) ([]byte, error) {
	data, err := hex.DecodeString(cookie)
	if err != nil || len(data) != 16 {
		return nil, errors.New("cookie is not 32 hex digits") // never quoted: it is a secret
	}
	return data, nil
}

// parseAuthority reads an Xauthority file. What follows a broken entry is lost,
// as it is for Xlib.
func parseAuthority(b []byte) (entries []entry) {
	field := func() (s []byte, ok bool) {
		if len(b) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			return nil, false
		}
		s, b = b[2:2+n], b[2+n:]
		return s, true
	}
	for len(b) >= 2 {
		e := entry{family: binary.BigEndian.Uint16(b)}
		b = b[2:]
		var fields [4][]byte
		for i := range fields {
			f, ok := field()
			if !ok {
				return entries
			}
			fields[i] = f
		}
		e.address, e.number, e.name, e.data = string(fields[0]), string(fields[1]), string(fields[2]), fields[3]
		entries = append(entries, e)
	}
	return entries
}

// choose finds the cookie for a display: on remote when that is valid, else on
// this machine, which is called hostname.
func choose(entries []entry, number string, remote netip.Addr, hostname string) []byte {
	for _, e := range entries {
		if e.name != magicCookie || len(e.data) != 16 || e.number != "" && e.number != number {
			continue
		}
		local := !remote.IsValid() || remote.IsLoopback()
		ip, isIP := netip.AddrFromSlice([]byte(e.address))
		switch {
		case e.family == familyWild,
			e.family == familyLocal && local && e.address == hostname,
			(e.family == familyInternet || e.family == familyInternet6) && isIP && ip == remote:
			return e.data
		}
	}
	return nil
}

// authorization finds what to send in the handshake; both are empty when the
// display is to be tried without.
func authorization(d media.Display, a address, conn net.Conn) (proto string, secret []byte, err error) {
	if d.Cookie != "" {
		secret, err = parseCookie(d.Cookie)
		return magicCookie, secret, err
	}
	file := d.Authority
	if file == "" {
		if file = DefaultAuthority(); file == "" {
			return "", nil, nil
		}
	}
	b, err := readAuthority(file)
	if err != nil {
		return "", nil, fmt.Errorf("read X authority: %w", err)
	}
	hostname, err := os.Hostname()
	if err != nil {
		return "", nil, fmt.Errorf("read X authority: %w", err)
	}
	var remote netip.Addr
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		remote = tcp.AddrPort().Addr().Unmap()
	}
	if secret = choose(parseAuthority(b), strconv.Itoa(a.number), remote, hostname); secret == nil {
		return "", nil, nil
	}
	return magicCookie, secret, nil
}

// DefaultAuthority is the Xauthority file that this process's environment points
// to, $XAUTHORITY or ~/.Xauthority, or empty when there is no such file.
func DefaultAuthority() string {
	file := os.Getenv("XAUTHORITY")
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		file = filepath.Join(home, ".Xauthority")
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	return file
}

func readAuthority(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would block
		return nil, fmt.Errorf("%s is not a regular file", file)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxAuthority))
}

// shake makes the X11 handshake and returns all that the server answered. The
// deadline is set on conn by the caller and is taken off here.
func shake(conn net.Conn, proto string, secret []byte) ([]byte, error) {
	le := binary.LittleEndian
	pad := func(b []byte) []byte { return append(b, make([]byte, -len(b)&3)...) }
	b := []byte{'l', 0}
	b = le.AppendUint16(b, 11)
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, uint16(len(proto)))
	b = le.AppendUint16(b, uint16(len(secret)))
	b = le.AppendUint16(b, 0)
	b = pad(append(b, proto...))
	b = pad(append(b, secret...))
	if _, err := conn.Write(b); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	head := make([]byte, 8)
	if _, err := io.ReadFull(conn, head); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	setup := append(head, make([]byte, 4*int(le.Uint16(head[6:])))...)
	if _, err := io.ReadFull(conn, setup[8:]); err != nil {
		return nil, fmt.Errorf("shake hands: %w", err)
	}
	switch head[0] {
	case 0: // failed, with a reason of so many bytes
		return nil, fmt.Errorf("refused: %q", setup[8:min(len(setup), 8+int(head[1]))])
	case 2: // wants another round, for which no protocol in use has a need
		return nil, fmt.Errorf("refused: %q", setup[8:min(len(setup), 8+256)])
	}
	if le.Uint16(head[2:]) != 11 || len(setup) < 40 {
		return nil, fmt.Errorf("%w: not an X11 setup", ErrProtocol)
	}
	return setup, nil
}
