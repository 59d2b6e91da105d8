// Package rtsp is where a Moonlight client and this server agree on a stream: seven
// requests over TCP, each on a connection of its own, sealed for all clients but
// old ones.
//
// Facts are from "moonlight protocol", sections 9 and 14.2. It imports media, launch
// and signaling/tcp.
package rtsp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"fenrir/signaling/moonlight/launch"
)

var be, le = binary.BigEndian, binary.LittleEndian

// Bounds of a request. The largest of clients has 2 KB.
const (
	maxRequest = 16 << 10 // bytes, its body and seal included
	maxHeaders = 32
)

// ErrMalformed is what is said of what is no request.
var ErrMalformed = errors.New("not a request")

// request is one request. Header names are in lower case.
type request struct {
	method, target string
	headers        map[string]string
	body           string
}

const blank = "\r\n\r\n"

// whole is how long the plain request at the start of b is, 0 while that is not known.
func whole(b []byte) (int, error) {
	at := bytes.Index(b, []byte(blank))
	if at < 0 {
		return 0, nil
	}
	r, err := parse(b[:at+len(blank)])
	if err != nil {
		return 0, err
	}
	length := 0
	if text, ok := r.headers["content-length"]; ok {
		length, err = strconv.Atoi(text)
		if err != nil || length < 0 || length > maxRequest {
			return 0, ErrMalformed
		}
	}
	return at + len(blank) + length, nil
}

// parse reads a whole request.
func parse(b []byte) (r request, err error) {
	head, body, ok := strings.Cut(string(b), blank)
	if !ok || len(b) > maxRequest {
		return r, ErrMalformed
	}
	lines := strings.Split(head, "\r\n")
	first := strings.Fields(lines[0])
	if len(first) != 3 || !strings.HasPrefix(first[2], "RTSP/1.") || len(lines) > maxHeaders {
		return r, ErrMalformed
	}
	r = request{method: first[0], target: first[1], headers: make(map[string]string, len(lines)), body: body}
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return r, ErrMalformed
		}
		r.headers[strings.ToLower(strings.TrimSpace(name))] = strings.TrimSpace(value)
	}
	return r, nil
}

// response is an answer. Clients compare header names exactly and want at least one.
type response struct {
	status  int
	headers [][2]string
	body    string
}

var phrases = map[int]string{
	200: "OK", 400: "Bad Request", 404: "Not Found", 451: "Parameter Not Understood",
	455: "Method Not Valid in This State", 501: "Not Implemented", 503: "Service Unavailable",
}

func (r response) bytes(seq string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "RTSP/1.0 %d %s\r\nCSeq: %s\r\n", r.status, phrases[r.status], seq)
	for _, h := range r.headers {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	b.WriteString("\r\n" + r.body)
	return b.Bytes()
}

// The seal of a message: its length with the highest bit set, a number, the tag.
const (
	sealHead   = 24
	sealedFlag = 1 << 31
)

// sealedSize is how long the sealed message at the start of b is, 0 while that is not
// known, or an error.
func sealedSize(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	n := be.Uint32(b) &^ sealedFlag
	if n > maxRequest-sealHead {
		return 0, ErrMalformed
	}
	return sealHead + int(n), nil
}

func gcm(key launch.Key) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// nonce is that of a message of the client ('C') or the host ('H').
func nonce(seq uint32, from byte) []byte {
	n := append(le.AppendUint32(nil, seq), make([]byte, 8)...)
	n[10], n[11] = from, 'R'
	return n
}

// open opens a sealed request; ok is false when it is not of this key.
func open(key launch.Key, b []byte) (text []byte, seq uint32, ok bool) {
	aead, err := gcm(key)
	if err != nil || len(b) < sealHead {
		return nil, 0, false
	}
	seq = be.Uint32(b[4:])
	sealed := append(bytes.Clone(b[sealHead:]), b[8:sealHead]...)
	text, err = aead.Open(nil, nonce(seq, 'C'), sealed, nil)
	return text, seq, err == nil
}

// seal seals an answer.
func seal(key launch.Key, seq uint32, text []byte) ([]byte, error) {
	aead, err := gcm(key)
	if err != nil {
		return nil, err
	}
	out := be.AppendUint32(be.AppendUint32(nil, sealedFlag|uint32(len(text))), seq)
	sealed := aead.Seal(nil, nonce(seq, 'H'), text, nil)
	return append(append(out, sealed[len(text):]...), sealed[:len(text)]...), nil
}
