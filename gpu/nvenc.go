package gpu

import (
	"fmt"
	"strconv"
	"strings"
)

// judge says what can be known of a GPU's encoder from what the driver told.
// refused counts the codecs for which the driver said "not supported", failed
// those for which it said something else.
//
// The chips come first: on data-centre chips without an encoder, what
// nvmlDeviceGetEncoderCapacity answers depends on the driver. Capacity decides
// for all others. The last word has the probe that really encodes a frame.
func judge(g GPU, driver string, consumer bool, capacity map[string]int, refused, failed int) NVENC {
	n := NVENC{Capacity: capacity}
	if chip := chipWithoutNVENC(g.Name, g.Compute); chip != "" {
		n.Present, n.Reason = No, fmt.Sprintf("%s has no video encoder (NVENC): it computes and decodes only", chip)
		n.Capacity = nil
		return n
	}
	switch {
	case len(capacity) > 0:
		n.Present, n.Reason = Yes, "the driver offers NVENC for "+strings.Join(codecs(capacity), ", ")
	case refused > 0 && failed == 0:
		n.Present, n.Reason = No, "the driver says that this GPU has no video encoder (NVENC) for H.264, HEVC or AV1"
		return n
	default:
		n.Present, n.Reason = Unknown, "the driver does not tell whether this GPU has a video encoder (NVENC)"
	}
	if consumer {
		n.Limit, n.Shared = consumerLimit(driver), true
	}
	return n
}

func codecs(capacity map[string]int) []string {
	var out []string
	for _, c := range []string{"h264", "h265", "av1"} {
		if _, ok := capacity[c]; ok {
			out = append(out, c)
		}
	}
	return out
}

// chipWithoutNVENC names the chip when it is one of those that NVIDIA built
// without an encoder, and is empty otherwise (NVIDIA, Video Encode and Decode
// GPU Support Matrix). The compute capability tells the data-centre chips apart
// from their siblings: 8.0 is GA100 (A100, A30, A800), 9.0 Hopper (H100, H200,
// GH200, H20), 10.x data-centre Blackwell (B100, B200, B300). The small chips
// GM108 and GP108 share theirs with encoding siblings: there only the name helps.
func chipWithoutNVENC(name, compute string) string {
	family := map[string]string{
		"8.0": "The A100 family (Ampere GA100)", "9.0": "The H100 and H200 family (Hopper)",
		"10.0": "The B100 and B200 family (data-centre Blackwell)", "10.3": "The B300 family (data-centre Blackwell Ultra)",
	}
	if f, ok := family[compute]; ok {
		return f
	}
	for _, word := range strings.FieldsFunc(strings.ToUpper(name), func(r rune) bool { return r == ' ' || r == '-' || r == '/' || r == '_' }) {
		switch word {
		case "A100", "A100X", "A30", "A30X", "A800", "PG506":
			return family["8.0"]
		case "H100", "H100L", "H200", "H800", "H20", "GH200", "H100NVL":
			return family["9.0"]
		case "B100", "B200", "GB200":
			return family["10.0"]
		case "B300", "GB300":
			return family["10.3"]
		case "MX110", "MX130", "MX150", "MX230", "MX250", "MX330":
			return "The GeForce " + word
		}
	}
	if strings.Contains(strings.ToUpper(name), "GT 1030") {
		return "The GeForce GT 1030"
	}
	return ""
}

// consumerLimit is how many encoder sessions NVIDIA's driver of that version
// allows on all GeForce and Titan cards of a machine together: 3 before release
// 530, then 5, 8 since 550 (January 2024), 12 since 590 (December 2025). The
// figures are those of its support matrix at those times. A version that cannot
// be read gets the middle one.
func consumerLimit(driver string) int {
	major, err := strconv.Atoi(strings.SplitN(driver, ".", 2)[0])
	switch {
	case err != nil:
		return 8
	case major < 530:
		return 3
	case major < 550:
		return 5
	case major < 590:
		return 8
	}
	return 12
}
