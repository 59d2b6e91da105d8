//go:build cgo

package gpu

import (
	"errors"
	"fmt"
	"strings"

	"github.com/NVIDIA/go-nvml/pkg/dl"
	"github.com/NVIDIA/go-nvml/pkg/nvml"
)

var errNotBuiltIn = errors.New("this binary was built without NVIDIA support (CGO_ENABLED=0)")

func nvidia() driver { return &library{nvml: nvml.New()} }

// library asks NVIDIA's management library.
type library struct {
	nvml nvml.Interface
	has  func(symbol string) bool // whether the library has that function
}

func (l *library) load() (missing bool, err error) {
	// nvml.Init says "library not found" whatever went wrong while loading: the
	// linker's own words are worth a call of their own.
	handle := dl.New(libraryName, dl.RTLD_LAZY|dl.RTLD_GLOBAL)
	if err := handle.Open(); err != nil {
		// The linker names the file that it could not open first: ours is
		// missing, or ours is there and misses another.
		text := err.Error()
		return strings.HasPrefix(text, libraryName+": cannot open shared object file"), err
	}
	// Calling a function that an old driver lacks would end the process.
	l.has = func(symbol string) bool { return handle.Lookup(symbol) == nil }
	return false, nil
}

func (l *library) init() error { return said("initialise", l.nvml.Init()) }

func (l *library) version() (string, error) {
	v, ret := l.nvml.SystemGetDriverVersion()
	return v, said("driver version", ret)
}

func (l *library) count() (int, error) {
	n, ret := l.nvml.DeviceGetCount()
	return n, said("count", ret)
}

func (l *library) device(index int) (device, error) {
	d, ret := l.nvml.DeviceGetHandleByIndex(index)
	if err := said("handle", ret); err != nil {
		return nil, err
	}
	return &card{d, l.has}, nil
}

// said turns an answer of the library into an error.
func said(what string, ret nvml.Return) error {
	switch ret {
	case nvml.SUCCESS:
		return nil
	case nvml.ERROR_NOT_SUPPORTED:
		return notSupported{what}
	}
	return fmt.Errorf("%s: %s", what, strings.ToLower(ret.Error()))
}

// card is one GPU of the library.
type card struct {
	nvml nvml.Device
	has  func(symbol string) bool
}

// lacks is the error for a function that the driver is too old for.
func (c *card) lacks(symbol string) error {
	if c.has == nil || c.has(symbol) {
		return nil
	}
	return fmt.Errorf("the driver is too old for %s", symbol)
}

func (c *card) uuid() (string, error) {
	if err := c.lacks("nvmlDeviceGetUUID"); err != nil {
		return "", err
	}
	v, ret := c.nvml.GetUUID()
	return v, said("uuid", ret)
}

func (c *card) name() (string, error) {
	v, ret := c.nvml.GetName()
	return v, said("name", ret)
}

func (c *card) pci() (string, error) {
	if err := c.lacks("nvmlDeviceGetPciInfo"); err != nil {
		return "", err
	}
	v, ret := c.nvml.GetPciInfo()
	if err := said("pci", ret); err != nil {
		return "", err
	}
	var b strings.Builder
	for _, r := range v.BusId {
		if r == 0 {
			break
		}
		b.WriteByte(byte(r))
	}
	return b.String(), nil
}

var architectures = map[nvml.DeviceArchitecture]string{
	nvml.DEVICE_ARCH_KEPLER: "Kepler", nvml.DEVICE_ARCH_MAXWELL: "Maxwell", nvml.DEVICE_ARCH_PASCAL: "Pascal",
	nvml.DEVICE_ARCH_VOLTA: "Volta", nvml.DEVICE_ARCH_TURING: "Turing", nvml.DEVICE_ARCH_AMPERE: "Ampere",
	nvml.DEVICE_ARCH_ADA: "Ada Lovelace", nvml.DEVICE_ARCH_HOPPER: "Hopper", nvml.DEVICE_ARCH_BLACKWELL: "Blackwell",
}

func (c *card) architecture() (string, error) {
	if err := c.lacks("nvmlDeviceGetArchitecture"); err != nil {
		return "", err
	}
	v, ret := c.nvml.GetArchitecture()
	return architectures[v], said("architecture", ret)
}

func (c *card) compute() (string, error) {
	if err := c.lacks("nvmlDeviceGetCudaComputeCapability"); err != nil {
		return "", err
	}
	major, minor, ret := c.nvml.GetCudaComputeCapability()
	if err := said("compute capability", ret); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d.%d", major, minor), nil
}

func (c *card) consumer() (bool, error) {
	if err := c.lacks("nvmlDeviceGetBrand"); err != nil {
		return false, err
	}
	b, ret := c.nvml.GetBrand()
	if err := said("brand", ret); err != nil {
		return false, err
	}
	switch b {
	case nvml.BRAND_GEFORCE, nvml.BRAND_GEFORCE_RTX, nvml.BRAND_TITAN, nvml.BRAND_TITAN_RTX:
		return true, nil
	case nvml.BRAND_UNKNOWN:
		return false, errors.New("brand: unknown")
	}
	return false, nil
}

func (c *card) memory() (total, used uint64, err error) {
	if err := c.lacks("nvmlDeviceGetMemoryInfo"); err != nil {
		return 0, 0, err
	}
	m, ret := c.nvml.GetMemoryInfo()
	return m.Total, m.Used, said("memory", ret)
}

func (c *card) busy() (int, error) {
	if err := c.lacks("nvmlDeviceGetUtilizationRates"); err != nil {
		return 0, err
	}
	u, ret := c.nvml.GetUtilizationRates()
	return int(u.Gpu), said("utilisation", ret)
}

func (c *card) encoder() (int, error) {
	if err := c.lacks("nvmlDeviceGetEncoderUtilization"); err != nil {
		return 0, err
	}
	u, _, ret := c.nvml.GetEncoderUtilization()
	return int(u), said("encoder utilisation", ret)
}

func (c *card) decoder() (int, error) {
	if err := c.lacks("nvmlDeviceGetDecoderUtilization"); err != nil {
		return 0, err
	}
	u, _, ret := c.nvml.GetDecoderUtilization()
	return int(u), said("decoder utilisation", ret)
}

var queries = map[string]nvml.EncoderType{"h264": nvml.ENCODER_QUERY_H264, "h265": nvml.ENCODER_QUERY_HEVC, "av1": nvml.ENCODER_QUERY_AV1}

func (c *card) capacity(codec string) (int, error) {
	if err := c.lacks("nvmlDeviceGetEncoderCapacity"); err != nil {
		return 0, err
	}
	v, ret := c.nvml.GetEncoderCapacity(queries[codec])
	if ret == nvml.ERROR_INVALID_ARGUMENT { // a driver from before that codec
		return 0, notSupported{codec}
	}
	return v, said("encoder capacity", ret)
}

func (c *card) sessions() (Encodes, error) {
	if err := c.lacks("nvmlDeviceGetEncoderStats"); err != nil {
		return Encodes{}, err
	}
	n, fps, micros, ret := c.nvml.GetEncoderStats()
	return Encodes{Count: n, AverageFPS: int(fps), AverageMicros: int(micros)}, said("encoder sessions", ret)
}
