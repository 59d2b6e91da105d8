package av

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// client puts frames together as the protocol has it: it repairs blocks by solving
// the equations of the parity, with its own arithmetic.
type client struct {
	payload int
	open    cipher.AEAD
}

// field multiplies and divides by tables of logarithms.
var field = func() (f struct {
	exp [512]byte
	log [256]int
}) {
	x := 1
	for i := range 255 {
		f.exp[i], f.exp[i+255] = byte(x), byte(x)
		f.log[x] = i
		if x <<= 1; x > 255 {
			x ^= 0x11D
		}
	}
	return f
}()

func mul(a, b byte) byte {
	if a == 0 || b == 0 {
		return 0
	}
	return field.exp[field.log[a]+field.log[b]]
}

func inv(a byte) byte { return field.exp[255-field.log[a]] }

// solve finds the missing data shards (nil) from parity rows that came.
func solve(shards [][]byte, data, parity int) error {
	var missing []int
	for i := range data {
		if shards[i] == nil {
			missing = append(missing, i)
		}
	}
	var rows [][]byte // coefficients of the missing, then the right side
	for j := range parity {
		p := shards[data+j]
		if p == nil || len(rows) == len(missing) {
			continue
		}
		right := bytes.Clone(p)
		for i := range data {
			if shards[i] == nil {
				continue
			}
			m := inv(byte((parity + i) ^ j))
			for k, b := range shards[i] {
				right[k] ^= mul(m, b)
			}
		}
		row := make([]byte, 0, len(missing)+len(right))
		for _, i := range missing {
			row = append(row, inv(byte((parity+i)^j)))
		}
		rows = append(rows, append(row, right...))
	}
	if len(rows) < len(missing) {
		return fmt.Errorf("%d packets missing, %d equations", len(missing), len(rows))
	}
	for c := range missing {
		at := c
		for at < len(rows) && rows[at][c] == 0 {
			at++
		}
		if at == len(rows) {
			return errors.New("the equations depend on each other")
		}
		rows[c], rows[at] = rows[at], rows[c]
		d := inv(rows[c][c])
		for k := range rows[c] {
			rows[c][k] = mul(rows[c][k], d)
		}
		for r := range rows {
			if f := rows[r][c]; r != c && f != 0 {
				for k := range rows[r] {
					rows[r][k] ^= mul(f, rows[c][k])
				}
			}
		}
	}
	for n, i := range missing {
		shards[i] = rows[n][len(missing):]
	}
	return nil
}

// frame is what a client makes of the datagrams that came.
func (c *client) frame(datagrams [][]byte) (data []byte, number uint32, err error) {
	type block struct {
		shards       [][]byte
		data, parity int
	}
	var blocks [4]block
	last := 0
	for _, p := range datagrams {
		if c.open != nil {
			sealed := append(bytes.Clone(p[32:]), p[16:32]...)
			if p, err = c.open.Open(nil, p[:12], sealed, nil); err != nil {
				return nil, 0, err
			}
		}
		info := binary.LittleEndian.Uint32(p[28:])
		percent, index, count := int(info>>4&0xFF), int(info>>12&0x3FF), int(info>>22)
		number = binary.LittleEndian.Uint32(p[20:])
		last = int(p[27] >> 6)
		b := &blocks[p[27]>>4&3]
		if b.shards == nil {
			b.data, b.parity = count, (count*percent+99)/100
			b.shards = make([][]byte, b.data+b.parity)
		}
		q := bytes.Clone(p)
		clear(q[:16]) // what the code does not cover
		clear(q[28:32])
		if index >= len(b.shards) {
			return nil, 0, fmt.Errorf("packet %d of a block of %d", index, len(b.shards))
		}
		b.shards[index] = q
	}
	for n := range last + 1 {
		b := &blocks[n]
		// The client compares only these columns of what it repairs.
		for _, s := range b.shards[b.data:] {
			if s != nil {
				clear(s[20:24])
				s[27] = 0
			}
		}
		for _, s := range b.shards[:b.data] {
			if s != nil {
				clear(s[20:24])
				s[27] = 0
			}
		}
		if err := solve(b.shards, b.data, b.parity); err != nil {
			return nil, 0, err
		}
		var previous uint32
		for i, s := range b.shards[:b.data] {
			flags := byte(1)
			if i == 0 {
				flags |= 4
			}
			if i == b.data-1 {
				flags |= 2
			}
			at := binary.LittleEndian.Uint32(s[16:]) >> 8
			if s[24] != flags || i > 0 && at != (previous+1)&0xFFFFFF {
				return nil, 0, fmt.Errorf("packet %d of block %d has flags %d and index %d after %d", i, n, s[24], at, previous)
			}
			previous = at
			data = append(data, s[32:]...)
		}
	}
	if data[0] != 1 {
		return nil, 0, errors.New("no frame header")
	}
	rest := len(data) - c.payload + int(binary.LittleEndian.Uint16(data[4:]))
	return data[8:rest], number, nil
}

// TestLossIsRepaired sends frames of all sizes and loses as many packets of each
// block as its parity can replace.
func TestLossIsRepaired(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, key := range [][]byte{nil, []byte("sixteen bytes ok")} {
		v, err := NewVideo(VideoConfig{PacketSize: 1024, MinParity: 2, Key: key})
		if err != nil {
			t.Fatal(err)
		}
		c := client{payload: 1024 - 16}
		if key != nil {
			block, _ := aes.NewCipher(key)
			c.open, _ = cipher.NewGCM(block)
		}
		for n := range 60 {
			size := 1 + random.IntN([]int{100, 3000, 60_000, 400_000}[n%4])
			if n == 0 {
				size = 2*(1024-16) - 8 // full to the last byte
			}
			data := make([]byte, size)
			for i := range data {
				data[i] = byte(random.Uint32())
			}
			percent := []int{1, 10, 20, 50, 100}[n%5]
			out, err := v.Packets(Frame{Data: data, Type: Ordinary}, percent)
			if err != nil {
				t.Fatal(err)
			}
			var came [][]byte
			for _, b := range blocksOf(v, size, percent) {
				lost := map[int]bool{}
				for range b[1] {
					lost[random.IntN(b[0]+b[1])] = true
				}
				for i, p := range out[:b[0]+b[1]] {
					if len(p) != v.stride {
						t.Fatalf("a packet of %d bytes", len(p))
					}
					if !lost[i] {
						came = append(came, p)
					}
				}
				out = out[b[0]+b[1]:]
			}
			if len(out) > 0 {
				t.Fatalf("%d packets too many", len(out))
			}
			got, number, err := c.frame(came)
			if err != nil || !bytes.Equal(got, data) || number != uint32(n+1) {
				t.Fatalf("frame %d of %d bytes, %d %%, came as number %d with %d bytes: %v", n+1, size, percent, number, len(got), err)
			}
		}
	}
}

// blocksOf are the data and parity packets of each block.
func blocksOf(v *Video, size, percent int) (blocks [][2]int) {
	p, _ := v.plan(size, percent)
	for left := p.total; left > 0; left -= p.data {
		data := min(p.data, left)
		parity, _ := v.parityOf(data, p.percent)
		blocks = append(blocks, [2]int{data, parity})
	}
	return blocks
}

func TestParityIsWhatClientsCompute(t *testing.T) {
	for _, least := range []int{0, 1, 2} {
		v := Video{minParity: least}
		for percent := 1; percent <= MaxPercent; percent++ {
			for data := 1; data <= min(maxShards*100/(100+percent), maxShards-least); data++ {
				parity, announced := v.parityOf(data, percent)
				if theirs := (data*announced + 99) / 100; theirs != parity || parity < least || data+parity > maxShards || announced > 255 {
					t.Fatalf("%d packets at %d %%: %d for parity, announced as %d %%, of which clients make %d", data, percent, parity, announced, theirs)
				}
			}
		}
	}
}

func TestFramesThatCannotBeSent(t *testing.T) {
	v, err := NewVideo(VideoConfig{PacketSize: 64})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 48*4*maxBlockData - 7} {
		if _, err := v.Packets(Frame{Data: make([]byte, size)}, 20); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes: got %v, want %v", size, err, ErrFrame)
		}
	}
	out, err := v.Packets(Frame{Data: make([]byte, 48*4*maxBlockData-8)}, 20)
	if err != nil || len(out) != 4*maxBlockData {
		t.Fatalf("the largest frame makes %d packets: %v", len(out), err)
	}
	if _, number, err := (&client{payload: 48}).frame(out); err != nil || number != 1 {
		t.Errorf("the largest frame came as %d: %v", number, err)
	}
}

func TestImpossibleStreams(t *testing.T) {
	for _, c := range []VideoConfig{{PacketSize: 0}, {PacketSize: 63}, {PacketSize: 4096}, {PacketSize: 1024, MinParity: 3}, {PacketSize: 1024, Key: []byte("short")}} {
		if _, err := NewVideo(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
	for _, c := range []AudioConfig{{}, {Millis: 5, Size: 2}, {Millis: 5, Size: 1400}, {Millis: 5, Size: 60, Key: []byte("short")}} {
		if _, err := NewAudio(c); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}

func TestPercent(t *testing.T) {
	now := time.Now()
	var p Percent
	want := func(what string, n int) {
		t.Helper()
		if got := p.Now(now); got != n {
			t.Errorf("%s: %d %%, want %d", what, got, n)
		}
	}
	want("at first", 20)
	p.Repaired(Loss{Data: 10, Parity: 2, GotData: 9, GotParity: 2}, now)
	want("one of two needed", 20)
	p.Repaired(Loss{Data: 10, Parity: 2, GotData: 8, GotParity: 2}, now)
	want("both needed", 22)
	p.Repaired(Loss{Data: 10, Parity: 2, GotData: 7, GotParity: 2}, now)
	want("not enough", 33)
	for range 5 {
		p.Lost(now)
	}
	want("again and again", 50)
	for range 100 {
		now = now.Add(percentCalm)
		p.Now(now)
	}
	want("after a long calm", 10)
}

func BenchmarkPackets(b *testing.B) {
	for _, key := range [][]byte{nil, []byte("sixteen bytes ok")} {
		b.Run(fmt.Sprintf("40kB/sealed=%v", key != nil), func(b *testing.B) {
			v, err := NewVideo(VideoConfig{PacketSize: 1024, MinParity: 2, Key: key})
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 40_000)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Packets(Frame{Data: data, Type: Ordinary}, 20); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
