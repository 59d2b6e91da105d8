package pulse

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/jfreymuth/pulse/proto"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNobodyIsWaitedFor: servers that say nothing, hang up, take nothing, or speak
// something else. One that is well is the recorder's and the playground's tests'.
func TestNobodyIsWaitedFor(t *testing.T) {
	const bound = 50 * time.Millisecond
	for what, serve := range map[string]func(net.Conn){
		"says nothing":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"hangs up":      func(c net.Conn) { _ = c.Close() },
		"takes nothing": func(net.Conn) {},
		"speaks another protocol": func(c net.Conn) {
			go func() { _, _ = io.Copy(io.Discard, c) }()
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")) // the client may be gone
		},
	} {
		t.Run(what, func(t *testing.T) {
			ours, theirs := net.Pipe()
			served := make(chan struct{})
			go func() {
				defer close(served)
				serve(theirs)
			}()
			began := time.Now()
			c, err := New(ours, Login{Bound: bound, Props: proto.PropList{}}, func(any) {})
			if err == nil {
				c.Close()
				t.Error("logged in")
			}
			if took := time.Since(began); took > 20*bound {
				t.Errorf("took %v", took)
			}
			_ = theirs.Close() // may be closed already
			<-served
		})
	}
}
