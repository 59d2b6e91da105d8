package session

import (
	"fmt"
	"slices"
	"strings"

	"fenrir/media"
)

// Encoders chooses an encoder for a peer. It is immutable.
type Encoders struct {
	// Found is what the probe says of every entry of the encoder table.
	Found []media.Encoder
	// Want is "auto", a family ("nvenc", "vaapi", "software") or the name of one
	// entry. Anything but auto is meant: if nothing of it works, the choice
	// fails, and nothing else is taken in its place.
	Want string
	// Order ranks codecs when the peer's own order leaves it open and when
	// nobody asked yet; it must not be empty.
	Order []media.Codec
}

// Choice is an encoder with the reason for it, one sentence.
type Choice struct {
	Encoder media.Encoder
	Reason  string
}

// Choose takes the best working encoder for one of the codecs that the peer
// decodes, most wanted first. Hardware wins over software; among equals the
// house's order of codecs decides unless the peer asked for one codec only.
// The error is a *media.Cause with code no-encoder.
func (e Encoders) Choose(offered []media.Codec) (Choice, error) {
	var able, refused []string
	var best *media.Encoder
	for _, codec := range e.ranked(offered) {
		for i := range e.Found {
			enc := &e.Found[i]
			if enc.Codec != codec || !e.wanted(*enc) {
				continue
			}
			if !enc.Works {
				refused = append(refused, fmt.Sprintf("%s: %s", enc.Name, enc.Reason))
				continue
			}
			able = append(able, enc.Name)
			if best == nil || enc.Hardware && !best.Hardware {
				best = enc
			}
		}
	}
	if best == nil {
		return Choice{}, e.refusal(offered, refused)
	}
	return Choice{Encoder: *best, Reason: e.reason(*best, able, refused)}, nil
}

func (e Encoders) wanted(enc media.Encoder) bool {
	return e.Want == "" || e.Want == "auto" || e.Want == enc.Family || e.Want == enc.Name
}

// ranked is what was offered in the house's order; codecs that the house does
// not rank come last, in the peer's order.
func (e Encoders) ranked(offered []media.Codec) []media.Codec {
	var out []media.Codec
	for _, c := range e.Order {
		if slices.Contains(offered, c) {
			out = append(out, c)
		}
	}
	for _, c := range offered {
		if !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func (e Encoders) refusal(offered []media.Codec, refused []string) error {
	names := make([]string, len(offered))
	for i, c := range offered {
		names[i] = string(c)
	}
	what := "no encoder"
	if e.Want != "" && e.Want != "auto" {
		what = fmt.Sprintf("the configuration asks for %q and no such encoder", e.Want)
	}
	detail := fmt.Sprintf("%s works for %s", what, strings.Join(names, ", "))
	if len(refused) > 0 {
		detail += " (" + strings.Join(refused, "; ") + ")"
	}
	return &media.Cause{Code: media.CauseNoEncoder, Detail: detail}
}

func (e Encoders) reason(best media.Encoder, able, refused []string) string {
	var why string
	switch {
	case e.Want == best.Name:
		why = "the configuration names it"
	case e.Want != "" && e.Want != "auto":
		why = fmt.Sprintf("the configuration asks for %q", e.Want)
	case best.Hardware:
		why = "hardware encoder for a codec that the player decodes"
	default:
		why = "no hardware encoder works here, and it is the first software encoder for a codec that the player decodes"
		if hw := e.hardwareReasons(); hw != "" {
			why += "; " + hw
		}
	}
	if len(able) > 1 {
		why += "; also able: " + strings.Join(able[1:], ", ")
	}
	return why
}

// hardwareReasons says briefly why hardware is out, one reason per family.
func (e Encoders) hardwareReasons() string {
	var parts []string
	seen := map[string]bool{}
	for _, enc := range e.Found {
		if enc.Hardware && !enc.Works && !seen[enc.Family] {
			seen[enc.Family] = true
			parts = append(parts, enc.Family+": "+enc.Reason)
		}
	}
	return strings.Join(parts, "; ")
}
