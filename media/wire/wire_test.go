package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"fenrir/media"
)

var all = []Type{TypeUnit, TypeReport, TypeSpec, TypeOrder}

func messages() []Message {
	return []Message{
		media.Spec{
			Session: "s", Display: media.Display{Name: ":7", Cookie: strings.Repeat("ab", 16), Framebuffer: "/x", Width: 1280, Height: 720},
			Sound: media.Sound{Server: "unix:/p", Source: "m"},
			Video: &media.VideoSpec{Encoder: "x264", Codec: media.H264, FPS: 60, Kbps: 8000, Cursor: true},
			Audio: &media.AudioSpec{Kbps: 128, FrameMs: 10},
		},
		media.Order{Kind: media.OrderBitrate, Kbps: 3000},
		media.Order{Kind: media.OrderStop},
		media.Unit{
			Kind: media.Video, Codec: media.H264, Key: true, Frame: 1<<32 - 1, Width: 3840, Height: 2160,
			Stages: media.Stages{Damage: 1, Captured: 2, Converted: 3, Encoded: 4, Emitted: 5, Received: 6},
			Data:   bytes.Repeat([]byte{1, 2, 3}, 40000),
		},
		media.Unit{Kind: media.Audio, Codec: media.Opus, Key: true, Stages: media.Stages{Captured: -1, Encoded: 1 << 62}, Data: []byte{}},
		media.Report{Kind: media.ReportHeartbeat, Counts: media.Counts{Damaged: 1, Captured: 2, Repeated: 3, Encoded: 4, Dropped: 5}},
		media.Report{Kind: media.ReportFailed, Cause: media.NewCause(media.CauseNoEncoder, "why")},
	}
}

func write(t testing.TB, w *Writer, m Message) {
	t.Helper()
	var err error
	switch m := m.(type) {
	case media.Unit:
		err = w.Unit(m)
	case media.Report:
		err = w.Report(m)
	case media.Spec:
		err = w.Spec(m)
	case media.Order:
		err = w.Order(m)
	default:
		t.Fatalf("no such message: %T", m)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryMessageComesBackAsItWas(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := NewWriter(&buf, 0)
	for _, m := range messages() {
		write(t, w, m)
	}
	r := NewReader(&buf, all...)
	for _, want := range messages() {
		got, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatalf("after the last message: %v", err)
	}
}

func TestUnitsAreOfTheirExactSize(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := NewWriter(&buf, 0)
	for n := range 3 {
		write(t, w, media.Unit{Kind: media.Video, Codec: media.VP8, Data: bytes.Repeat([]byte{byte(n)}, 1000+n)})
	}
	r := NewReader(&buf, TypeUnit)
	var units []media.Unit
	for range 3 {
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		units = append(units, m.(media.Unit))
	}
	for n, u := range units {
		if len(u.Data) != 1000+n || cap(u.Data) > 1280 || bytes.Count(u.Data, []byte{byte(n)}) != len(u.Data) {
			t.Errorf("unit %d: len %d cap %d, or bytes shared with another", n, len(u.Data), cap(u.Data))
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	le := binary.LittleEndian
	message := func(size uint32, t Type, body ...byte) []byte {
		return append(append(le.AppendUint32(nil, size), byte(t)), body...)
	}
	unit := func(change func(h []byte)) []byte {
		var buf bytes.Buffer
		if err := NewWriter(&buf, 0).Unit(media.Unit{Kind: media.Video, Codec: media.H264}); err != nil {
			t.Fatal(err)
		}
		change(buf.Bytes()[prefix:])
		return buf.Bytes()
	}
	for name, c := range map[string]struct {
		in     []byte
		accept []Type
		want   error
	}{
		"length 0":            {message(0, TypeOrder), all, ErrMalformed},
		"unknown type":        {message(3, 9, '{', '}'), all, ErrMalformed},
		"type 255":            {message(3, 255, '{', '}'), all, ErrMalformed},
		"wrong direction":     {message(3, TypeOrder, '{', '}'), []Type{TypeUnit, TypeReport}, ErrMalformed},
		"long JSON":           {message(MaxControl+2, TypeOrder), all, ErrMalformed},
		"no JSON":             {message(3, TypeOrder, '{', '['), all, ErrMalformed},
		"long unit":           {message(unitHeader+MaxUnit+2, TypeUnit), all, ErrMalformed},
		"short unit":          {message(unitHeader, TypeUnit), all, ErrMalformed},
		"unit of no kind":     {unit(func(h []byte) { h[0] = 0 }), all, ErrMalformed},
		"unit of kind 3":      {unit(func(h []byte) { h[0] = 3 }), all, ErrMalformed},
		"unit of no codec":    {unit(func(h []byte) { h[1] = 0 }), all, ErrMalformed},
		"unit of codec 99":    {unit(func(h []byte) { h[1] = 99 }), all, ErrMalformed},
		"unit with flag 2":    {unit(func(h []byte) { h[2] = 2 }), all, ErrMalformed},
		"audio in h264":       {unit(func(h []byte) { h[0] = byte(media.Audio) }), all, ErrMalformed},
		"cut in the prefix":   {message(3, TypeOrder)[:3], all, io.ErrUnexpectedEOF},
		"cut in the JSON":     {message(9, TypeOrder, '{'), all, io.ErrUnexpectedEOF},
		"cut in unit header":  {message(unitHeader+1, TypeUnit, 1), all, io.ErrUnexpectedEOF},
		"cut in unit's bytes": {append(message(unitHeader+3, TypeUnit), unit(func([]byte) {})[prefix:]...), all, io.ErrUnexpectedEOF},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if m, err := NewReader(bytes.NewReader(c.in), c.accept...).Next(); !errors.Is(err, c.want) {
				t.Fatalf("got %v, %v; want %v", m, err, c.want)
			}
		})
	}
}

func TestWriterRefusesWhatIsTooLarge(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	w := NewWriter(&buf, 0)
	if err := w.Unit(media.Unit{Kind: media.Video, Codec: media.H264, Data: make([]byte, MaxUnit+1)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("unit: %v", err)
	}
	if err := w.Report(media.Report{Encoder: strings.Repeat("x", MaxControl)}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("report: %v", err)
	}
	if buf.Len() != 0 {
		t.Fatalf("%d bytes of refused messages were written", buf.Len())
	}
	write(t, w, media.Order{Kind: media.OrderStop})
}

// pair is a socketpair as between parent and worker.
func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		ends[i], err = net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() }) // a second Close is of no account
	}
	return ends[0], ends[1]
}

func TestWriterGivesUpOnAPeerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	a, _ := pair(t)
	w := NewWriter(a, 50*time.Millisecond)
	u := media.Unit{Kind: media.Video, Codec: media.H264, Data: make([]byte, 1<<20)}
	began := time.Now()
	err := w.Unit(u)
	for err == nil && time.Since(began) < 5*time.Second {
		err = w.Unit(u)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v", err)
	}
	if err := w.Order(media.Order{Kind: media.OrderStop}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after a message that was cut in two, another was written: %v", err)
	}
}

// BenchmarkUnit is the way of a 100 kB frame over the socket.
func BenchmarkUnit(b *testing.B) {
	from, to := pair(b)
	w, r := NewWriter(from, 0), NewReader(to, TypeUnit)
	u := media.Unit{Kind: media.Video, Codec: media.H264, Data: make([]byte, 100<<10)}
	b.ReportAllocs()
	b.SetBytes(int64(len(u.Data)))
	done := make(chan error, 1)
	go func() {
		for range b.N {
			if _, err := r.Next(); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for range b.N {
		if err := w.Unit(u); err != nil {
			b.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// FuzzReader feeds bytes to a Reader: it ends with an error or EOF, and what
// it took for a unit is written as the very same bytes.
func FuzzReader(f *testing.F) {
	for _, m := range messages() {
		var buf bytes.Buffer
		write(f, NewWriter(&buf, 0), m)
		if buf.Len() < 4096 {
			f.Add(buf.Bytes())
		}
	}
	f.Add([]byte{255, 255, 255, 255, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in), all...)
		for at := 0; ; {
			m, err := r.Next()
			if err != nil {
				return
			}
			size := prefix - 1 + int(binary.LittleEndian.Uint32(in[at:]))
			if u, ok := m.(media.Unit); ok {
				var buf bytes.Buffer
				write(t, NewWriter(&buf, 0), u)
				if !bytes.Equal(buf.Bytes(), in[at:at+size]) {
					t.Fatalf("unit %+v was read from %x and is written as %x", u, in[at:at+size], buf.Bytes())
				}
			}
			at += size
		}
	})
}

// FuzzUnit writes a unit and reads it back.
func FuzzUnit(f *testing.F) {
	f.Add(uint8(1), true, uint32(3), uint16(1280), uint16(720), int64(5), int64(6), []byte("x"))
	f.Fuzz(func(t *testing.T, codec uint8, key bool, frame uint32, width, height uint16, damage, emitted int64, data []byte) {
		u := media.Unit{
			Kind: media.Video, Codec: codecs[1+codec%6], Key: key, Frame: frame, Width: width, Height: height,
			Stages: media.Stages{Damage: media.Stamp(damage), Emitted: media.Stamp(emitted)}, Data: data,
		}
		if u.Codec == media.Opus {
			u.Kind = media.Audio
		}
		var buf bytes.Buffer
		write(t, NewWriter(&buf, 0), u)
		m, err := NewReader(&buf, TypeUnit).Next()
		if err != nil {
			t.Fatal(err)
		}
		got := m.(media.Unit)
		if !bytes.Equal(got.Data, data) {
			t.Fatal("bytes differ")
		}
		got.Data, u.Data = nil, nil
		if !reflect.DeepEqual(got, u) {
			t.Fatalf("got %+v, want %+v", got, u)
		}
	})
}
