package av

import (
	"fmt"

	"github.com/klauspost/reedsolomon"
)

// maxShards is how many packets, data and parity, a block may have: the field of
// the code has no room for more.
const maxShards = 255

// maxCodes bounds the codes that a stream remembers. Pictures of one stream come in
// some dozens of sizes.
const maxCodes = 128

// codes are the Reed-Solomon codes of a stream by their numbers of data and
// parity packets.
type codes map[[2]int]reedsolomon.Encoder

// parity computes the parity shards, which follow the data shards in shards. All
// have the same length.
func (c *codes) parity(shards [][]byte, data int) error {
	key := [2]int{data, len(shards) - data}
	enc := (*c)[key]
	if enc == nil {
		var err error
		enc, err = newCode(cauchy(key[0], key[1]))
		if err != nil {
			return err
		}
		if *c == nil || len(*c) >= maxCodes {
			*c = make(codes)
		}
		(*c)[key] = enc
	}
	if err := enc.Encode(shards); err != nil {
		return fmt.Errorf("parity of %d and %d packets: %w", key[0], key[1], err)
	}
	return nil
}

// newCode is the systematic code with these rows of parity coefficients.
func newCode(rows [][]byte) (reedsolomon.Encoder, error) {
	enc, err := reedsolomon.New(len(rows[0]), len(rows), reedsolomon.WithCustomMatrix(rows), reedsolomon.WithMaxGoroutines(1))
	if err != nil {
		return nil, fmt.Errorf("code of %d and %d packets: %w", len(rows[0]), len(rows), err)
	}
	return enc, nil
}

// cauchy is the matrix that clients use for video: row j, column i is the inverse
// of (parity+i) xor j. It is another one for each number of parity packets.
func cauchy(data, parity int) [][]byte {
	rows := make([][]byte, parity)
	for j := range rows {
		rows[j] = make([]byte, data)
		for i := range rows[j] {
			rows[j][i] = inverse(byte((parity + i) ^ j))
		}
	}
	return rows
}

// inverse is the multiplicative inverse in GF(2^8) with the polynomial 0x11D. Of 0,
// which has none and does not occur, it is 0.
func inverse(a byte) byte {
	// a^254, by squaring.
	result := byte(1)
	for n := 254; n > 0; n >>= 1 {
		if n&1 == 1 {
			result = multiply(result, a)
		}
		a = multiply(a, a)
	}
	return result
}

func multiply(a, b byte) (product byte) {
	for ; b > 0; b >>= 1 {
		if b&1 == 1 {
			product ^= a
		}
		carry := a&0x80 != 0
		a <<= 1
		if carry {
			a ^= 0x1D
		}
	}
	return product
}
