package gpu

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// libraryName is what the dynamic linker is asked for.
const libraryName = "libnvidia-ml.so.1"

// childLife ends a probe whose parent died before it could kill it.
const childLife = 10 * time.Second

// line is one line of what a probe prints: first the stages that it enters, so
// that the parent of a hung one can say where, then the report.
type line struct {
	Stage  string  `json:"stage,omitempty"`
	Report *Report `json:"report,omitempty"`
}

// driver is what a probe asks of the driver library. Its methods may hang.
type driver interface {
	// load finds and links the library. missing tells that it is not there.
	load() (missing bool, err error)
	init() error
	version() (string, error)
	count() (int, error)
	device(index int) (device, error)
}

// device is one GPU, as the driver library answers about it. An error means
// that the driver does not tell; errNotSupported that there is no such thing.
type device interface {
	uuid() (string, error)
	name() (string, error)
	pci() (string, error)
	architecture() (string, error)
	compute() (string, error)
	consumer() (bool, error)
	memory() (total, used uint64, err error)
	busy() (int, error)
	encoder() (int, error)
	decoder() (int, error)
	capacity(codec string) (int, error)
	sessions() (Encodes, error)
}

// notSupported is the driver's word that a GPU lacks what was asked for.
type notSupported struct{ what string }

func (e notSupported) Error() string { return e.what + ": not supported" }

// ProbeMain asks the driver library for the inventory and writes it to out as
// JSON lines. It is the whole life of a child process of Inventory: it may hang
// in the library until it is killed, and ends itself after ten seconds. It
// returns the exit status.
func ProbeMain(out io.Writer) int {
	time.AfterFunc(childLife, func() { os.Exit(3) })
	return probe(nvidia(), out)
}

func probe(d driver, out io.Writer) int {
	enc := json.NewEncoder(out)
	began := time.Now()
	stage := func(format string, args ...any) error { return enc.Encode(line{Stage: fmt.Sprintf(format, args...)}) }
	r := take(d, stage)
	r.Began, r.TookMs = began, int(time.Since(began).Milliseconds())
	if err := enc.Encode(line{Report: &r}); err != nil {
		fmt.Fprintln(os.Stderr, "gpu-probe: write report:", err)
		return 1
	}
	return 0
}

// take makes the inventory. What stage returns is nobody's business here: if
// the parent is gone, writing the report says so.
func take(d driver, stage func(string, ...any) error) Report {
	r := Report{State: DriverError, GPUs: []GPU{}}
	_ = stage("loading %s", libraryName)
	if missing, err := d.load(); err != nil {
		switch {
		case err == errNotBuiltIn:
			r.State, r.Detail = NotBuiltIn, err.Error()
		case missing:
			r.State, r.Detail = NoDriver, err.Error()
		default:
			r.Detail = "the driver library cannot be loaded: " + err.Error()
		}
		return r
	}
	_ = stage("initialising the driver library")
	if err := d.init(); err != nil {
		r.Detail = "the driver library does not start: " + err.Error()
		return r
	}
	_ = stage("asking for the GPUs")
	r.Driver, _ = d.version() // "" says unknown
	n, err := d.count()
	if err != nil {
		r.Detail = "the driver does not tell its GPUs: " + err.Error()
		return r
	}
	r.State = OK
	for i := range n {
		_ = stage("asking GPU %d", i)
		r.GPUs = append(r.GPUs, ask(d, i, r.Driver))
	}
	return r
}

// ask fills in what one GPU tells. Only a device that cannot be had at all is
// a problem; single questions that it does not answer stay unknown.
func ask(d driver, index int, version string) GPU {
	g := GPU{Index: index, NVENC: NVENC{Present: Unknown, Reason: "the driver does not answer for this GPU"}}
	dev, err := d.device(index)
	if err != nil {
		g.Problem = "the driver does not answer for this GPU: " + err.Error()
		return g
	}
	if g.Name, err = dev.name(); err != nil {
		g.Problem = "the driver does not tell its name: " + err.Error()
	}
	g.UUID, _ = dev.uuid() // here and below: "" and nil say unknown
	g.PCI, _ = dev.pci()
	g.Architecture, _ = dev.architecture()
	g.Compute, _ = dev.compute()
	if total, used, err := dev.memory(); err == nil {
		g.MemoryTotal, g.MemoryUsed = &total, &used
	}
	g.Busy, g.Encoder, g.Decoder = known(dev.busy()), known(dev.encoder()), known(dev.decoder())
	capacity, refused, failed := map[string]int{}, 0, 0
	for _, codec := range []string{"h264", "h265", "av1"} {
		free, err := dev.capacity(codec)
		switch err.(type) {
		case nil:
			capacity[codec] = free
		case notSupported:
			refused++
		default:
			failed++
		}
	}
	consumer, err := dev.consumer()
	if err != nil {
		consumer = looksConsumer(g.Name)
	}
	g.NVENC = judge(g, version, consumer, capacity, refused, failed)
	if s, err := dev.sessions(); err == nil && g.NVENC.Present != No {
		g.Sessions = &s
	}
	return g
}

func known(v int, err error) *int {
	if err != nil {
		return nil
	}
	return &v
}

// looksConsumer tells GeForce and Titan cards by their name.
func looksConsumer(name string) bool {
	n := strings.ToUpper(name)
	return strings.Contains(n, "GEFORCE") || strings.Contains(n, "TITAN")
}
