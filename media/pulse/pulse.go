// Package pulse is a connection to a PulseAudio server. It promises that nothing
// waits for the server longer than was asked for, whatever it does, and that a
// connection that was closed has no goroutine left. It imports jfreymuth/pulse's
// protocol package.
package pulse

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jfreymuth/pulse/proto"
)

// Login says who connects.
type Login struct {
	Bound  time.Duration  // for each answer, and for each message to the server
	Cookie []byte         // 256 bytes; nil where any will do
	Props  proto.PropList // what the server's user is told of us; nil is nothing
}

// Conn is a connection to a server that knows us.
type Conn struct {
	*proto.Client
	conn net.Conn
	gone chan struct{}
}

// New logs in over conn, which belongs to it from then on, and to nobody when it
// fails. What the server sends goes to take, one message at a time; take must not
// wait for an answer. It waits at most twice login.Bound.
func New(conn net.Conn, login Login, take func(any)) (*Conn, error) {
	c := &Conn{Client: &proto.Client{}, conn: bounded{conn, login.Bound}, gone: make(chan struct{})}
	c.Callback = func(message any) { // without one the protocol package panics at the end
		if _, ok := message.(*proto.ConnectionClosed); ok {
			close(c.gone)
			return
		}
		take(message)
	}
	c.SetTimeout(login.Bound)
	c.Open(c.conn)
	if login.Cookie == nil {
		login.Cookie = make([]byte, 256)
	}
	var auth proto.AuthReply
	if err := c.Request(&proto.Auth{Version: c.Version(), Cookie: login.Cookie}, &auth); err != nil {
		c.Close()
		return nil, fmt.Errorf("log in at the sound server: %w", err)
	}
	c.SetVersion(auth.Version)
	if login.Props == nil {
		return c, nil
	}
	if err := c.Request(&proto.SetClientName{Props: login.Props}, &proto.SetClientNameReply{}); err != nil {
		c.Close()
		return nil, fmt.Errorf("name ourselves to the sound server: %w", err)
	}
	return c, nil
}

// Gone is closed when the server has said its last word.
func (c *Conn) Gone() <-chan struct{} { return c.gone }

// HangUp ends the connection and does not wait: requests fail, and Gone is closed
// soon. It may be called again, and by take.
func (c *Conn) HangUp() { _ = c.conn.Close() } // that it is closed already is fine

// Close hangs up and waits until take is not called any more. It may be called again.
func (c *Conn) Close() {
	c.HangUp()
	<-c.gone
}

// bounded is a connection whose writes end, and whose every end looks like EOF:
// the only one that the protocol package tells.
type bounded struct {
	net.Conn
	bound time.Duration
}

func (b bounded) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

func (b bounded) Write(p []byte) (int, error) {
	if err := b.SetWriteDeadline(time.Now().Add(b.bound)); err != nil {
		return 0, err
	}
	n, err := b.Conn.Write(p)
	if err != nil {
		_ = b.Close() // the protocol package does not look at errors of writes
	}
	return n, err
}
