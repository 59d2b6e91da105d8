// Package gpu knows the NVIDIA GPUs of this machine: what they are, how busy
// they and their encoders are, and who holds their encoder slots. It promises
// that a driver library which is missing, broken or hung costs its caller two
// seconds at most: the driver is only ever called in a child process
// (ProbeMain), which Inventory starts, reads and kills. It is the only importer
// of go-nvml and imports nothing of ours.
package gpu

import (
	"fmt"
	"strings"
	"time"
)

// State says how an inventory went.
type State string

// The states of an inventory.
const (
	OK          State = "ok"           // the driver answered; GPUs may still be empty
	NoDriver    State = "no-driver"    // there is no driver library
	DriverError State = "driver-error" // the library is there, but loading or initialising it failed
	TimedOut    State = "timed-out"    // the library did not answer in time
	ProbeFailed State = "probe-failed" // the probe itself died or said nothing intelligible
	NotBuiltIn  State = "not-built-in" // this binary was built without C and cannot ask
)

// Report is an inventory. Numbers that the driver did not tell are nil, never 0.
type Report struct {
	State  State     `json:"state"`
	Detail string    `json:"detail"` // what is wrong, in words; empty for OK
	Driver string    `json:"driver"` // version, "" when unknown
	GPUs   []GPU     `json:"gpus"`
	Began  time.Time `json:"began"`
	TookMs int       `json:"took_ms"`
}

// GPU is one graphics processor.
type GPU struct {
	Index        int      `json:"index"` // NVML's, by PCI bus
	UUID         string   `json:"uuid"`
	Name         string   `json:"name"`
	PCI          string   `json:"pci"`          // bus id
	Architecture string   `json:"architecture"` // "Ada Lovelace"; "" when unknown
	Compute      string   `json:"compute"`      // CUDA compute capability, "8.9"; "" when unknown
	MemoryTotal  *uint64  `json:"memory_total"` // bytes
	MemoryUsed   *uint64  `json:"memory_used"`  // bytes
	Busy         *int     `json:"busy"`         // percent of the time
	Encoder      *int     `json:"encoder"`      // percent of the time
	Decoder      *int     `json:"decoder"`      // percent of the time
	NVENC        NVENC    `json:"nvenc"`
	Sessions     *Encodes `json:"sessions"` // of all processes on the GPU
	Problem      string   `json:"problem"`  // why the GPU could not be asked, "" mostly
}

// Encodes sums up the encoder sessions that are open on a GPU.
type Encodes struct {
	Count         int `json:"count"`
	AverageFPS    int `json:"average_fps"`
	AverageMicros int `json:"average_micros"` // latency of a frame
}

// Answer is yes, no or unknown.
type Answer string

// The answers.
const (
	Yes     Answer = "yes"
	No      Answer = "no"
	Unknown Answer = "unknown"
)

// NVENC is what can be said of a GPU's video encoder without trying it.
type NVENC struct {
	Present  Answer         `json:"present"`
	Reason   string         `json:"reason"`   // one sentence
	Capacity map[string]int `json:"capacity"` // codec → percent that is free now; a codec that the driver refuses is absent
	Limit    int            `json:"limit"`    // sessions that the driver allows at a time, 0: no limit but the hardware's
	Shared   bool           `json:"shared"`   // Limit holds for all such GPUs of the machine together
}

// Find is the GPU with that index ("0"), UUID or PCI bus id.
func (r Report) Find(id string) (GPU, bool) {
	for _, g := range r.GPUs {
		if id == g.UUID && id != "" || id == fmt.Sprint(g.Index) || id != "" && strings.EqualFold(id, g.PCI) {
			return g, true
		}
	}
	return GPU{}, false
}

// Note is the inventory in words, for people: why there is no GPU, or which of
// those that are there cannot encode.
func (r Report) Note() string {
	switch {
	case r.State == NoDriver:
		return "No NVIDIA driver is installed on this machine."
	case r.State != OK:
		return "NVIDIA GPUs cannot be asked: " + r.Detail + "."
	case len(r.GPUs) == 0:
		return "The NVIDIA driver " + r.Driver + " is installed, but it finds no GPU."
	}
	var notes []string
	for _, g := range r.GPUs {
		switch {
		case g.Problem != "":
			notes = append(notes, fmt.Sprintf("GPU %d %s: %s.", g.Index, g.Name, g.Problem))
		case g.NVENC.Present != Yes:
			notes = append(notes, fmt.Sprintf("GPU %d %s: %s.", g.Index, g.Name, g.NVENC.Reason))
		}
	}
	return strings.Join(notes, " ")
}
