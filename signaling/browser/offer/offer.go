// Package offer checks a client's session description before pion sees it.
//
// It imports media and pion's SDP parser.
package offer

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pion/sdp/v3"

	"fenrir/media"
)

// Limits of an offer. Chromium's with everything it has stays below 12 KiB, 4
// sections and 400 lines.
const (
	MaxSize       = 60 << 10
	maxSections   = 16
	maxLines      = 2000
	maxLineLength = 2048
)

// Offer is what we need to know of an offer before pion sees it.
type Offer struct {
	Codecs []media.Codec // video codecs that it can receive, in its order
	Audio  bool          // it wants Opus
	Data   bool
	Ufrag  string
	Pwd    string
}

// Has tells whether the client can receive c.
func (o Offer) Has(c media.Codec) bool {
	for _, have := range o.Codecs {
		if have == c {
			return true
		}
	}
	return false
}

// Parse checks a client's offer: sizes, sections, and that what we cannot
// do without is there. It never panics, whatever it is given.
func Parse(text string) (o Offer, err error) {
	if len(text) > MaxSize {
		return o, fmt.Errorf("%d bytes, at most %d are allowed", len(text), MaxSize)
	}
	lines := 0
	for line := range strings.SplitSeq(text, "\n") {
		if lines++; lines > maxLines {
			return o, fmt.Errorf("more than %d lines", maxLines)
		}
		if len(line) > maxLineLength {
			return o, fmt.Errorf("a line of %d bytes", len(line))
		}
	}
	var d sdp.SessionDescription
	if err := d.UnmarshalString(text); err != nil {
		return o, fmt.Errorf("not a session description: %w", err)
	}
	if len(d.MediaDescriptions) == 0 {
		return o, errors.New("no media sections")
	}
	if len(d.MediaDescriptions) > maxSections {
		return o, fmt.Errorf("%d media sections, at most %d are allowed", len(d.MediaDescriptions), maxSections)
	}
	attribute := func(m *sdp.MediaDescription, name string) string {
		if v, ok := m.Attribute(name); ok {
			return v
		}
		v, _ := d.Attribute(name)
		return v
	}
	video := false
	mids := make(map[string]bool)
	for _, m := range d.MediaDescriptions {
		mid, ok := m.Attribute(sdp.AttrKeyMID)
		if !ok || mid == "" || mids[mid] {
			return o, errors.New("a media section without an identifier of its own")
		}
		mids[mid] = true
		if m.MediaName.Port.Value == 0 && m.MediaName.Media != "application" {
			if _, only := m.Attribute("bundle-only"); !only {
				continue // switched off
			}
		}
		if o.Ufrag == "" {
			o.Ufrag, o.Pwd = attribute(m, "ice-ufrag"), attribute(m, "ice-pwd")
			if len(o.Ufrag) < 4 || len(o.Pwd) < 22 || len(o.Ufrag) > 256 || len(o.Pwd) > 256 {
				return o, errors.New("no usable ICE credentials")
			}
			if attribute(m, "fingerprint") == "" {
				return o, errors.New("no certificate fingerprint")
			}
		}
		switch m.MediaName.Media {
		case "video":
			if !video && receives(m) {
				video = true
				o.Codecs = videoCodecs(m)
			}
		case "audio":
			o.Audio = o.Audio || receives(m) && hasOpus(m)
		case "application":
			o.Data = true
		default:
			return o, fmt.Errorf("a media section of kind %.32q", m.MediaName.Media)
		}
	}
	if !video {
		return o, errors.New("no section that receives video")
	}
	if len(o.Codecs) == 0 {
		return o, errors.New("no video codec that this server knows")
	}
	return o, nil
}

func receives(m *sdp.MediaDescription) bool {
	_, send := m.Attribute("sendonly")
	_, none := m.Attribute("inactive")
	return !send && !none
}

// rtpmaps are the encodings of a section in the order of its formats.
func rtpmaps(m *sdp.MediaDescription) []string {
	names := make(map[string]string)
	for _, a := range m.Attributes {
		if a.Key != "rtpmap" {
			continue
		}
		if pt, name, ok := strings.Cut(a.Value, " "); ok {
			names[pt] = strings.ToLower(name)
		}
	}
	out := make([]string, 0, len(m.MediaName.Formats))
	for _, f := range m.MediaName.Formats {
		if n, ok := names[f]; ok {
			out = append(out, n)
		}
	}
	return out
}

func videoCodecs(m *sdp.MediaDescription) (out []media.Codec) {
	seen := make(map[media.Codec]bool)
	for _, name := range rtpmaps(m) {
		name, _, _ = strings.Cut(name, "/")
		c := media.Codec(name)
		switch c {
		case media.H264, media.H265, media.AV1, media.VP8, media.VP9:
			if !seen[c] {
				seen[c] = true
				out = append(out, c)
			}
		}
	}
	return out
}

func hasOpus(m *sdp.MediaDescription) bool {
	for _, name := range rtpmaps(m) {
		if strings.HasPrefix(name, "opus/48000") {
			return true
		}
	}
	return false
}
