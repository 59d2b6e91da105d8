package av

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"

	"github.com/klauspost/reedsolomon"
)

// Payload types of sound.
const (
	typeSound  = 97
	typeParity = 127
)

const (
	soundData    = 4 // packets of a block
	soundParity  = 2
	parityHeader = 12   // of a parity packet, after its RTP header
	maxSound     = 1400 // bytes of a datagram
)

// soundCode is the code of all sound. Its matrix is of another family than those
// for video.
var soundCode = func() reedsolomon.Encoder {
	enc, err := newCode([][]byte{{0x77, 0x40, 0x38, 0x0e}, {0xc7, 0xa7, 0x0d, 0x6c}})
	if err != nil {
		panic(err) // these are constants
	}
	return enc
}()

// ErrSound is wrapped by the error for a packet of sound that cannot be sent: it is
// no Opus, or too large.
var ErrSound = errors.New("sound cannot be packetised")

// AudioConfig is what was negotiated about the packets of a stream of sound.
type AudioConfig struct {
	Millis int    // that a packet lasts, 5 or 10
	Size   int    // bytes of each Opus packet; shorter ones are padded, longer ones refused
	Key    []byte // 16 bytes, nil: not encrypted
	KeyID  uint32 // rikeyid
}

// Audio packetises one stream. All its packets have the same length: where they
// have not, clients give up repairing.
type Audio struct {
	c      AudioConfig
	cipher cipher.Block // nil: none
	body   int          // bytes of a payload

	seq       uint16
	timestamp uint32 // ms, of the next packet
	padded    []byte
	data      [soundData][]byte
	parity    [soundParity][]byte
	shards    [soundData + soundParity][]byte // the payloads of both
	out       [1 + soundParity][]byte
}

// NewAudio makes a packetiser.
func NewAudio(c AudioConfig) (*Audio, error) {
	if c.Millis < 1 || c.Size < 3 || rtpHeader+parityHeader+c.Size+aes.BlockSize > maxSound {
		return nil, fmt.Errorf("packets of sound of %d ms and %d bytes are not possible", c.Millis, c.Size)
	}
	a := &Audio{c: c, body: c.Size, padded: make([]byte, 0, c.Size)}
	if c.Key != nil {
		block, err := aes.NewCipher(c.Key)
		if err != nil {
			return nil, fmt.Errorf("audio key: %w", err)
		}
		a.cipher = block
		a.body = (c.Size/aes.BlockSize + 1) * aes.BlockSize // PKCS #7 pads in any case
	}
	for i := range a.data {
		a.data[i] = make([]byte, rtpHeader+a.body)
		a.shards[i] = a.data[i][rtpHeader:]
	}
	for i := range a.parity {
		a.parity[i] = make([]byte, rtpHeader+parityHeader+a.body)
		a.shards[soundData+i] = a.parity[i][rtpHeader+parityHeader:]
	}
	return a, nil
}

// Packets makes the datagrams for one Opus packet: itself, and after each fourth
// one the parity. They are valid until the next call.
func (a *Audio) Packets(opus []byte) ([][]byte, error) {
	var err error
	if a.padded, err = PadOpus(a.padded[:0], opus, a.c.Size); err != nil {
		return nil, fmt.Errorf("sound of %d bytes, %d are possible: %w", len(opus), a.c.Size, errors.Join(ErrSound, err))
	}
	at := int(a.seq % soundData)
	packet := a.data[at]
	putHeader(packet, typeSound, a.seq, a.timestamp)
	a.fill(packet[rtpHeader:])
	a.out[0] = packet
	out := a.out[:1]
	if at == soundData-1 {
		if err := a.protect(); err != nil {
			return nil, err
		}
		out = append(out, a.parity[:]...)
	}
	a.seq++
	a.timestamp += uint32(a.c.Millis)
	return out, nil
}

// fill writes the payload of the next packet.
func (a *Audio) fill(to []byte) {
	n := copy(to, a.padded)
	if a.cipher == nil {
		return
	}
	pad := byte(len(to) - n)
	for i := n; i < len(to); i++ {
		to[i] = pad
	}
	var iv [aes.BlockSize]byte
	be.PutUint32(iv[:], a.c.KeyID+uint32(a.seq))
	cipher.NewCBCEncrypter(a.cipher, iv[:]).CryptBlocks(to, to)
}

// protect makes the parity of the block that ends with the present packet.
func (a *Audio) protect() error {
	if err := soundCode.Encode(a.shards[:]); err != nil {
		return fmt.Errorf("parity of sound: %w", err)
	}
	base := a.seq - (soundData - 1)
	began := a.timestamp - uint32((soundData-1)*a.c.Millis)
	for i, p := range a.parity {
		putHeader(p, typeParity, base+soundData+uint16(i), 0)
		p[12], p[13] = byte(i), typeSound
		be.PutUint16(p[14:], base)
		be.PutUint32(p[16:], began)
		be.PutUint32(p[20:], 0) // SSRC
	}
	return nil
}

func putHeader(p []byte, payload byte, seq uint16, timestamp uint32) {
	p[0], p[1] = 0x80, payload
	be.PutUint16(p[2:], seq)
	be.PutUint32(p[4:], timestamp)
	be.PutUint32(p[8:], 0) // SSRC
}
