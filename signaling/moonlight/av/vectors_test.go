package av

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
)

// hexed is bytes that JSON has as hexadecimal digits.
type hexed []byte

func (h *hexed) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// known are answers of clients' own code.
type known struct {
	Field struct {
		Exp     hexed `json:"exp_0_15"`
		Inverse hexed `json:"inv_1_15"`
		Product hexed `json:"mul_53_ca"`
	} `json:"gf256"`
	ReedSolomon []struct {
		Name         string
		DataShards   int     `json:"data_shards"`
		ParityShards int     `json:"parity_shards"`
		ShardLen     int     `json:"shard_len"`
		Row0         hexed   `json:"matrix_row0_first8"`
		LastRow      hexed   `json:"matrix_last_row_first8"`
		SHA256       hexed   `json:"parity_sha256_concat"`
		First        []hexed `json:"parity_first16"`
	} `json:"reed_solomon"`
	Packets []struct {
		Name       string
		Frame      hexed     `json:"frame_hex"`
		Type       FrameType `json:"frame_type"`
		Number     uint32    `json:"frame_number"`
		FirstSeq   uint32    `json:"first_seq"`
		NextSeq    uint32    `json:"next_seq"`
		Timestamp  uint32    `json:"rtp_timestamp"`
		PacketSize int
		Percent    int `json:"fec_percentage"`
		MinParity  int `json:"min_parity"`
		Latency    int `json:"latency_tenths_ms"`
		Packets    []json.RawMessage
		SHA256     hexed `json:"sha256_of_all_packets_concatenated"`
		First      hexed `json:"first_packet"`
		FirstOf1   hexed `json:"first_packet_of_block_1"`
		Last       hexed `json:"last_packet"`
	} `json:"av_packets"`
	GCM []struct {
		Key     hexed
		Frame   uint32 `json:"frame_number"`
		Counter uint64 `json:"iv_counter"`
		Plain   hexed  `json:"plain_rtp_packet"`
		Wire    hexed
	} `json:"video_gcm"`
	CBC []struct {
		Key       hexed  `json:"rikey"`
		KeyID     uint32 `json:"rikeyid_u32"`
		Seq       uint16 `json:"rtp_sequence"`
		Plain     hexed  `json:"plaintext"`
		Encrypted hexed  `json:"ciphertext_pkcs7"`
	} `json:"audio_cbc"`
}

func vectors(t *testing.T) (v known) {
	t.Helper()
	b, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTheFieldIsThatOfClients(t *testing.T) {
	f := vectors(t).Field
	power := byte(1)
	for i, want := range f.Exp {
		if power != want {
			t.Errorf("2^%d is %#x, want %#x", i, power, want)
		}
		power = multiply(power, 2)
	}
	for i, want := range f.Inverse {
		if got := inverse(byte(i + 1)); got != want {
			t.Errorf("1/%d is %#x, want %#x", i+1, got, want)
		}
	}
	if got := multiply(0x53, 0xCA); len(f.Product) != 1 || got != f.Product[0] {
		t.Errorf("0x53·0xca is %#x, want %x", got, f.Product)
	}
}

func TestParityAsClientsHaveIt(t *testing.T) {
	for _, c := range vectors(t).ReedSolomon {
		t.Run(c.Name, func(t *testing.T) {
			shards := make([][]byte, c.DataShards+c.ParityShards)
			for i := range shards {
				shards[i] = make([]byte, c.ShardLen)
				for j := range shards[i] {
					shards[i][j] = byte(i*7 + j)
				}
			}
			var all codes
			parity := func() error { return all.parity(shards, c.DataShards) }
			if strings.HasPrefix(c.Name, "audio") {
				parity = func() error { return soundCode.Encode(shards) }
			} else {
				rows := cauchy(c.DataShards, c.ParityShards)
				if !bytes.HasPrefix(rows[0], c.Row0) || !bytes.HasPrefix(rows[c.ParityShards-1], c.LastRow) {
					t.Errorf("matrix %x… %x…, want %x and %x", rows[0][:min(8, c.DataShards)], rows[c.ParityShards-1][:min(8, c.DataShards)], c.Row0, c.LastRow)
				}
			}
			if err := parity(); err != nil {
				t.Fatal(err)
			}
			got := shards[c.DataShards:]
			if sum := sha256.Sum256(bytes.Join(got, nil)); !bytes.Equal(sum[:], c.SHA256) {
				t.Errorf("parity has another hash")
			}
			for i, want := range c.First {
				if !bytes.HasPrefix(got[i], want) {
					t.Errorf("parity %d begins %x, want %x", i, got[i][:16], want)
				}
			}
		})
	}
}

func TestPacketsAsClientsHaveThem(t *testing.T) {
	for _, c := range vectors(t).Packets {
		if c.PacketSize == 0 {
			continue // sound
		}
		t.Run(c.Name, func(t *testing.T) {
			v, err := NewVideo(VideoConfig{PacketSize: c.PacketSize, MinParity: c.MinParity})
			if err != nil {
				t.Fatal(err)
			}
			v.frame, v.seq = c.Number-1, c.FirstSeq
			if c.Frame == nil {
				c.Frame = make([]byte, 14392)
				for i := range c.Frame {
					c.Frame[i] = byte(i*11 + 1)
				}
			}
			got, err := v.Packets(Frame{c.Frame, c.Type, time.Duration(c.Latency) * 100 * time.Microsecond, c.Timestamp}, c.Percent)
			if err != nil {
				t.Fatal(err)
			}
			for i, raw := range c.Packets {
				var want struct{ Hex hexed }
				if err := json.Unmarshal(raw, &want); err != nil {
					t.Fatal(err)
				}
				if i >= len(got) || !bytes.Equal(got[i], want.Hex) {
					t.Errorf("packet %d of %d is\n%x, want\n%x", i, len(got), got[min(i, len(got)-1)], want.Hex)
				}
			}
			if c.SHA256 == nil {
				return
			}
			if v.seq != c.NextSeq || !bytes.Equal(got[0], c.First) || !bytes.Equal(got[180], c.FirstOf1) || !bytes.Equal(got[len(got)-1], c.Last) {
				t.Errorf("%d packets, the next is %d, want %d; first, one of the middle or last is another", len(got), v.seq, c.NextSeq)
			}
			if sum := sha256.Sum256(bytes.Join(got, nil)); !bytes.Equal(sum[:], c.SHA256) {
				t.Errorf("packets have another hash")
			}
		})
	}
}

func TestSoundAsClientsHaveIt(t *testing.T) {
	for _, c := range vectors(t).Packets {
		if c.PacketSize != 0 {
			continue
		}
		var want [][]byte
		for _, raw := range c.Packets {
			var one hexed
			if err := json.Unmarshal(raw, &one); err != nil {
				t.Fatal(err)
			}
			want = append(want, one)
		}
		a, err := NewAudio(AudioConfig{Millis: 5, Size: 64})
		if err != nil {
			t.Fatal(err)
		}
		a.seq, a.timestamp = 8, 40
		var got [][]byte
		for _, w := range want[:4] {
			out, err := a.Packets(w[rtpHeader:])
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range out {
				got = append(got, bytes.Clone(p))
			}
		}
		for i := range want {
			if i >= len(got) || !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s: packet %d of %d is another than\n%x", c.Name, i, len(got), want[i])
			}
		}
	}
}

func TestSealedVideoAsClientsHaveIt(t *testing.T) {
	for _, c := range vectors(t).GCM {
		v, err := NewVideo(VideoConfig{PacketSize: len(c.Plain) - 16, Key: c.Key})
		if err != nil {
			t.Fatal(err)
		}
		v.sealed, v.frame = c.Counter, c.Frame
		datagram := append(make([]byte, sealHead), c.Plain...)
		v.out = [][]byte{datagram}
		v.encrypt()
		if !bytes.Equal(datagram, c.Wire) {
			t.Errorf("sealed\n%x, want\n%x", datagram, c.Wire)
		}
	}
}

func TestSealedSoundAsClientsHaveIt(t *testing.T) {
	for _, c := range vectors(t).CBC {
		block, err := aes.NewCipher(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		a := Audio{c: AudioConfig{KeyID: c.KeyID}, cipher: block, seq: c.Seq, padded: c.Plain}
		got := make([]byte, (len(c.Plain)/16+1)*16)
		a.fill(got)
		if !bytes.Equal(got, c.Encrypted) {
			t.Errorf("packet %d is\n%x, want\n%x", c.Seq, got, c.Encrypted)
		}
		cipher.NewCBCDecrypter(block, append(be.AppendUint32(nil, c.KeyID+uint32(c.Seq)), make([]byte, 12)...)).CryptBlocks(got, got)
		if !bytes.HasPrefix(got, c.Plain) {
			t.Errorf("packet %d does not open", c.Seq)
		}
	}
}
