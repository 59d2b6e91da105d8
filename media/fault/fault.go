//go:build faults

package fault

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/wire"
)

// Variable names faults by app: "app=fault,other=fault:30". A number is of units
// of video that come through before the fault begins.
const Variable = "FENRIR_FAULTS"

// Native is the variable by which a worker's own process tells its pipeline which
// fault is to happen in native code.
const Native = "FENRIR_FAULT_NATIVE"

// The faults that happen between the pipeline and its parent. Those of native code
// are the pipeline's: "block-start", "block-stop", "block-stream:N".
const (
	deaf    = "deaf"    // does as it was first told, and heeds no order, no signal and not its parent's end
	mute    = "mute"    // is not told what to do, and says nothing
	exit    = "exit"    // ends with status 3
	crash   = "crash"   // dies of SIGSEGV
	garbage = "garbage" // writes what is no message, for ever
	flood   = "flood"   // writes one unit again and again, as fast as it is read
	stall   = "stall"   // says nothing more
)

// For is the fault of an app, "" for none.
func For(app string) string {
	for entry := range strings.SplitSeq(os.Getenv(Variable), ",") {
		if name, fault, ok := strings.Cut(entry, "="); ok && name == app {
			return fault
		}
	}
	return ""
}

// Main runs a media worker, as main does with its socket, with a fault.
func Main(fault string, conn *os.File, main func(*os.File) int) int {
	name, number, _ := strings.Cut(fault, ":")
	after, _ := strconv.Atoi(number) // none is 0
	if strings.HasPrefix(name, "block-") {
		if err := os.Setenv(Native, fault); err != nil {
			panic(err) // should not happen: the name is a constant
		}
		return main(conn)
	}
	parent, err := net.FileConn(conn)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault: take socket of parent:", err)
		return 9
	}
	_ = conn.Close() // parent is its duplicate
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault: make socket:", err)
		return 9
	}
	file := os.NewFile(uintptr(fds[0]), "between")
	inner, err := net.FileConn(file)
	_ = file.Close() // inner is its duplicate
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault: make socket:", err)
		return 9
	}
	if name == deaf {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	}
	go tell(name, parent, inner)
	go hear(name, after, inner, parent)
	if name == mute {
		<-time.After(time.Hour)
	}
	return main(os.NewFile(uintptr(fds[1]), "parent"))
}

// tell passes on what the parent says.
func tell(name string, parent, inner net.Conn) {
	in, out := wire.NewReader(parent, wire.TypeSpec, wire.TypeOrder), wire.NewWriter(inner, 0)
	for {
		m, err := in.Next()
		if err != nil {
			if name != deaf && name != mute {
				_ = inner.Close() // by which the worker ends
			}
			return
		}
		switch m := m.(type) {
		case media.Spec:
			if name == exit {
				os.Exit(3)
			}
			if name != mute {
				_ = out.Spec(m) // its end shows in hear
			}
		case media.Order:
			if name != deaf && name != mute {
				_ = out.Order(m)
			}
		}
	}
}

// hear passes on what the worker says, until the fault begins.
func hear(name string, after int, inner, parent net.Conn) {
	in, out := wire.NewReader(inner, wire.TypeUnit, wire.TypeReport), wire.NewWriter(parent, 0)
	for seen := 0; ; {
		m, err := in.Next()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case media.Report:
			_ = out.Report(m) // a parent that is gone shows in tell
		case media.Unit:
			_ = out.Unit(m)
			if m.Kind != media.Video {
				continue
			}
			if seen++; seen > after {
				begin(name, m, out, parent)
			}
		}
	}
}

// begin is a fault that begins. It returns when there is none of this kind.
func begin(name string, u media.Unit, out *wire.Writer, parent net.Conn) {
	switch name {
	case crash:
		_ = syscall.Kill(syscall.Getpid(), syscall.SIGSEGV)
		<-time.After(time.Hour)
	case stall:
		<-time.After(time.Hour)
	case garbage:
		b := make([]byte, 4096)
		for {
			_, _ = rand.Read(b) // never fails
			if _, err := parent.Write(b); err != nil {
				<-time.After(time.Hour)
			}
		}
	case flood:
		for out.Unit(u) == nil {
		}
		<-time.After(time.Hour)
	}
}
