package worker

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"fenrir/media"
	"fenrir/media/wire"
)

// misbehave is what a re-executed test child does. It returns its exit code.
func misbehave(how string, args []string) int {
	if how == "child-probe" {
		return misprobe(args)
	}
	if len(args) > 0 {
		tell(args[0], os.Getpid())
	}
	if how == "child-exit" {
		fmt.Fprintln(os.Stderr, "I have had enough")
		return 3
	}
	file := os.NewFile(3, "parent")
	conn, err := net.FileConn(file)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 9
	}
	_ = file.Close() // conn is its duplicate
	out := wire.NewWriter(conn, 0)
	in := wire.NewReader(conn, wire.TypeSpec, wire.TypeOrder)
	if m, err := in.Next(); err != nil {
		return 0
	} else if o, ok := m.(media.Order); ok && o.Kind == media.OrderStop {
		return 0
	}
	ready := func() { _ = out.Report(media.Report{Kind: media.ReportReady, Encoder: "x264"}) }
	forEver := time.After(time.Hour) // a bare channel would be found a deadlock without cgo

	switch how {
	case "child-good":
		ready()
		go beat(out)
	case "child-crash":
		panic("this is a crash")
	case "child-garbage":
		for {
			if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
				return 0
			}
		}
	case "child-orders":
		_ = out.Order(media.Order{Kind: media.OrderStop})
		<-forEver
	case "child-huge":
		_, _ = conn.Write(append(binary.LittleEndian.AppendUint32(nil, 1<<31), byte(wire.TypeUnit)))
		<-forEver
	case "child-cut":
		_, _ = conn.Write(append(binary.LittleEndian.AppendUint32(nil, 1000), byte(wire.TypeUnit)))
		return 0
	case "child-never-ready":
		go beat(out)
		<-forEver
	case "child-silent":
		ready()
		<-forEver
	case "child-hum":
		ready()
		for {
			_ = out.Unit(media.Unit{Kind: media.Audio, Codec: media.Opus, Data: []byte("hum")})
			time.Sleep(10 * time.Millisecond)
		}
	case "child-stopped":
		ready()
		stopSelf()
	case "child-closes":
		_ = conn.Close()
		<-forEver
	case "child-fails", "child-fails-and-stays":
		_ = out.Report(media.Report{Kind: media.ReportFailed, Cause: media.NewCause(media.CauseNoEncoder, "no such thing")})
		if how == "child-fails" {
			return 1
		}
		<-forEver
	case "child-deaf":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		ready()
		go beat(out)
		<-forEver
	case "child-parent":
		cmd, err := grandchild()
		if err != nil {
			return 9
		}
		tell(args[0], os.Getpid(), cmd.Process.Pid)
		ready()
		go beat(out)
	case "child-flood":
		ready()
		go func() {
			for {
				if err := out.Unit(media.Unit{Kind: media.Video, Codec: media.H264, Data: make([]byte, 1000)}); err != nil {
					return
				}
			}
		}()
	case "child-chatty":
		for i := range 10000 {
			fmt.Fprintln(os.Stderr, "line", i, strings.Repeat("x", i%2000))
		}
		ready()
		go beat(out)
	}
	// The polite rest: answer orders, go when told.
	for {
		m, err := in.Next()
		if err != nil {
			return 0
		}
		switch o := m.(media.Order); o.Kind {
		case media.OrderStop:
			return 0
		case media.OrderBitrate:
			_ = out.Unit(media.Unit{
				Kind: media.Video, Codec: media.H264, Stages: media.Stages{Emitted: media.Now()}, Data: fmt.Appendf(nil, "bitrate %d", o.Kbps),
			})
		}
	}
}

func beat(out *wire.Writer) {
	for out.Report(media.Report{Kind: media.ReportHeartbeat}) == nil {
		time.Sleep(100 * time.Millisecond)
	}
}

func tell(file string, pids ...int) {
	if err := os.WriteFile(file, []byte(strings.Trim(fmt.Sprint(pids), "[]")), 0o600); err != nil {
		panic(err)
	}
}

// misprobe is a prober with one entry of each sort.
func misprobe(args []string) int {
	say := func(v any) int {
		if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
			return 1
		}
		return 0
	}
	if args[0] == "list" {
		return say([]media.Encoder{
			{Name: "hung"}, {Name: "good"}, {Name: "absent", Reason: "no element"}, {Name: "bad"}, {Name: "crashes"}, {Name: "babbles"}, {Name: "liar"},
		})
	}
	switch args[1] {
	case "good", "liar":
		return say(media.Encoder{Name: "good", Works: true, Element: "goodenc"})
	case "bad":
		return say(media.Encoder{Name: "bad", Reason: "it does not"})
	case "hung":
		<-time.After(time.Hour)
	case "crashes":
		panic("crash")
	case "babbles":
		for range 1 << 16 {
			fmt.Println("babble babble babble babble")
		}
	}
	return 0
}
