package x11

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// address is a parsed display name.
type address struct {
	host   string // empty: this machine, through a unix socket
	path   string // of the unix socket, when the name is one
	number int
}

// parseName reads a display name: "[host]:number[.screen]" or the path of a socket.
func parseName(name string) (address, error) {
	if strings.HasPrefix(name, "/") {
		return address{path: name}, nil
	}
	host, rest, ok := cutLast(name, ":")
	if !ok {
		return address{}, fmt.Errorf("display name %q: no colon", name)
	}
	number, _, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n > 65535-6000 {
		return address{}, fmt.Errorf("display name %q: bad number", name)
	}
	host = strings.TrimPrefix(host, "tcp/")
	if host == "unix" {
		host = ""
	}
	if strings.HasPrefix(host, "[") && strings.HasSuffix(host, "]") {
		host = host[1 : len(host)-1]
	}
	return address{host: host, number: int(n)}, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// connect opens the socket. The abstract socket, which some servers have in
// place of the file, is tried second.
func (a address) connect(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	if a.host != "" {
		return d.DialContext(ctx, "tcp", net.JoinHostPort(a.host, strconv.Itoa(6000+a.number)))
	}
	path := a.path
	if path == "" {
		path = "/tmp/.X11-unix/X" + strconv.Itoa(a.number)
	}
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil || a.path != "" {
		return conn, err
	}
	conn, err2 := d.DialContext(ctx, "unix", "@"+path)
	if err2 == nil {
		return conn, nil
	}
	return nil, errors.Join(err, err2)
}
