package moonlight

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
)

// field is GF(2^8) with the polynomial 0x11D.
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

// solve finds the missing ones (nil) of the first data shards, by parity rows with
// these coefficients. It tells whether there were enough.
func solve(shards [][]byte, data int, coefficient func(row, column int) byte) bool {
	var missing []int
	for i := range data {
		if shards[i] == nil {
			missing = append(missing, i)
		}
	}
	var rows [][]byte
	for j := range len(shards) - data {
		p := shards[data+j]
		if p == nil || len(rows) == len(missing) {
			continue
		}
		right := bytes.Clone(p)
		for i := range data {
			if shards[i] == nil {
				continue
			}
			for k, b := range shards[i] {
				right[k] ^= mul(coefficient(j, i), b)
			}
		}
		row := make([]byte, 0, len(missing)+len(right))
		for _, i := range missing {
			row = append(row, coefficient(j, i))
		}
		rows = append(rows, append(row, right...))
	}
	if len(rows) < len(missing) {
		return false
	}
	for c := range missing {
		at := c
		for at < len(rows) && rows[at][c] == 0 {
			at++
		}
		if at == len(rows) {
			return false
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
	return true
}

// block is a part of a frame.
type block struct {
	shards       [][]byte
	data, parity int
	have         int
	lacked       bool // a data packet came by repair
}

func (b *block) done() bool {
	if b.shards == nil || b.have < b.data {
		return false
	}
	for _, s := range b.shards[:b.data] {
		if s == nil {
			b.lacked = true
		}
	}
	return solve(b.shards, b.data, func(j, i int) byte { return inv(byte((b.parity + i) ^ j)) })
}

// hearVideo puts frames together.
func (s *Stream) hearVideo() func([]byte) {
	var number, last uint32 // of the frame under way, and of the last whole one
	var blocks [4]block
	var most int
	broken := true // until a key frame
	finish := func() {
		var data []byte
		for n := range most + 1 {
			b := &blocks[n]
			if !b.done() {
				return
			}
			for _, shard := range b.shards[:b.data] {
				data = append(data, shard[32:]...)
			}
			if b.lacked {
				s.Repaired.Add(1)
			}
		}
		missed := last != 0 && number != last+1
		last = number
		if len(data) < 8 || data[0] != 1 {
			s.Lost.Add(1)
			return
		}
		payload := len(blocks[0].shards[0]) - 32
		rest := int(le.Uint16(data[4:]))
		unit := data[8 : len(data)-payload+rest]
		key := data[3] == 2
		if missed {
			s.Lost.Add(1)
			broken = true
		}
		if key {
			broken = false
			s.Keys.Add(1)
		}
		if broken {
			if missed {
				_ = s.RequestIDR()
			}
			return
		}
		s.Frames.Add(1)
		s.mu.Lock()
		if len(s.latency) < maxLatencies {
			s.latency = append(s.latency, float64(le.Uint16(data[1:]))/10)
		}
		s.mu.Unlock()
		select {
		case s.video <- unit:
		default:
		}
	}
	return func(p []byte) {
		if s.l.mode.Seal&2 != 0 {
			if len(p) < 64 {
				return
			}
			plain, err := open(s.l.key, p[:12], p[16:])
			if err != nil {
				return
			}
			p = plain
		}
		if len(p) < 32 {
			return
		}
		info := le.Uint32(p[28:])
		percent, index, count := int(info>>4&0xFF), int(info>>12&0x3FF), int(info>>22)
		frame := le.Uint32(p[20:])
		if frame <= last || frame < number {
			return
		}
		if frame > number {
			number, most, blocks = frame, int(p[27]>>6), [4]block{}
		}
		b := &blocks[p[27]>>4&3]
		if b.shards == nil {
			b.data, b.parity = count, (count*percent+99)/100
			b.shards = make([][]byte, b.data+b.parity)
		}
		if index >= len(b.shards) || b.shards[index] != nil {
			return
		}
		b.shards[index] = bytes.Clone(p)
		clear(b.shards[index][:16]) // what the code does not cover, or is written over it
		for _, at := range []int{20, 21, 22, 23, 27, 28, 29, 30, 31} {
			b.shards[index][at] = 0
		}
		b.have++
		for n := range most + 1 {
			if blocks[n].shards == nil || blocks[n].have < blocks[n].data {
				return
			}
		}
		finish()
	}
}

// hearSound repairs and opens sound.
func (s *Stream) hearSound() func([]byte) {
	matrix := [2][4]byte{{0x77, 0x40, 0x38, 0x0e}, {0xc7, 0xa7, 0x0d, 0x6c}}
	groups := map[uint16][][]byte{}
	var next uint16
	emit := func(seq uint16, body []byte) {
		if s.l.mode.Seal&4 != 0 {
			block, err := aes.NewCipher(s.l.key)
			if err != nil || len(body)%16 != 0 || len(body) == 0 {
				return
			}
			iv := append(be.AppendUint32(nil, s.l.keyID+uint32(seq)), make([]byte, 12)...)
			out := make([]byte, len(body))
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(out, body)
			if pad := int(out[len(out)-1]); pad >= 1 && pad <= 16 {
				body = out[:len(out)-pad]
			}
		}
		s.Sounds.Add(1)
		select {
		case s.sound <- body:
		default:
		}
	}
	flush := func(base uint16) {
		g := groups[base]
		for i := range 4 {
			if g[i] != nil {
				emit(base+uint16(i), g[i])
			}
		}
		delete(groups, base)
		next = base + 4
	}
	return func(p []byte) {
		if len(p) < 12 {
			return
		}
		seq, base, at, body := be.Uint16(p[2:]), uint16(0), 0, p[12:]
		switch p[1] {
		case 97:
			base, at = seq&^3, int(seq&3)
		case 127:
			if len(p) < 24 || p[12] > 1 {
				return
			}
			base, at, body = be.Uint16(p[14:]), 4+int(p[12]), p[24:]
		default:
			return
		}
		if base-next > 0x8000 {
			return // of a block that is over
		}
		for old := range groups {
			if base-old > 8 && base-old < 0x8000 {
				flush(old)
			}
		}
		g := groups[base]
		if g == nil {
			g = make([][]byte, 6)
			groups[base] = g
		}
		g[at] = bytes.Clone(body)
		have, data := 0, 0
		for i, b := range g {
			if b != nil {
				have++
				if i < 4 {
					data++
				}
			}
		}
		if data == 4 || have >= 4 {
			if data < 4 && solve(g, 4, func(j, i int) byte { return matrix[j][i] }) {
				s.SoundRepaired.Add(1)
			}
			flush(base)
		}
	}
}
