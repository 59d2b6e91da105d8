package capture

import (
	"context"
	"fmt"

	"github.com/jezek/xgb/shm"
	"github.com/jezek/xgb/xproto"
	"golang.org/x/sys/unix"

	"fenrir/media/x11"
)

const allPlanes = 0xffffffff

// shared reads through a System V segment that the X server writes into.
type shared struct {
	conn   *x11.Conn
	seg    shm.Seg
	memory []byte
}

func (s *shared) read(ctx context.Context, width, height int) (Frame, error) {
	if need := 4 * width * height; need > len(s.memory) {
		if err := s.grow(ctx, need); err != nil {
			return Frame{}, err
		}
	}
	_, err := x11.Reply(ctx, s.conn, shm.GetImage(s.conn.X, xproto.Drawable(s.conn.Root()), 0, 0, uint16(width), uint16(height),
		allPlanes, xproto.ImageFormatZPixmap, s.seg, 0))
	if err != nil {
		return Frame{}, err
	}
	return Frame{Pixels: s.memory, Stride: 4 * width, Width: width, Height: height}, nil
}

func (s *shared) grow(ctx context.Context, size int) error {
	s.close()
	id, err := unix.SysvShmGet(unix.IPC_PRIVATE, size, unix.IPC_CREAT|0o600)
	if err != nil {
		return fmt.Errorf("make shared memory: %w", err)
	}
	s.memory, err = unix.SysvShmAttach(id, 0, 0)
	// Linux lets the X server attach what is marked for removal; it is gone when
	// both sides have let go of it, however they end.
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		s.close()
		return fmt.Errorf("mark shared memory for removal: %w", err)
	}
	if err == nil {
		err = s.attach(ctx, id)
	}
	if err != nil {
		s.close()
		return fmt.Errorf("share memory with the X server: %w", err)
	}
	return nil
}

func (s *shared) attach(ctx context.Context, id int) error {
	seg, err := shm.NewSegId(s.conn.X)
	if err != nil {
		return err
	}
	if err := x11.Check(ctx, s.conn, shm.AttachChecked(s.conn.X, seg, uint32(id), false)); err != nil {
		return err
	}
	s.seg = seg
	return nil
}

func (s *shared) close() {
	if s.seg != 0 {
		shm.Detach(s.conn.X, s.seg)
		s.seg = 0
	}
	if s.memory != nil {
		_ = unix.SysvShmDetach(s.memory) // it was attached
		s.memory = nil
	}
}

// plain reads through the connection, which copies every pixel several times.
type plain struct{ conn *x11.Conn }

func (p plain) read(ctx context.Context, width, height int) (Frame, error) {
	img, err := x11.Reply(ctx, p.conn, xproto.GetImage(p.conn.X, xproto.ImageFormatZPixmap, xproto.Drawable(p.conn.Root()),
		0, 0, uint16(width), uint16(height), allPlanes))
	if err != nil {
		return Frame{}, err
	}
	if len(img.Data) < 4*width*height {
		return Frame{}, fmt.Errorf("%w: %d bytes for %d×%d pixels", ErrFormat, len(img.Data), width, height)
	}
	return Frame{Pixels: img.Data, Stride: 4 * width, Width: width, Height: height}, nil
}

func (plain) close() {}
