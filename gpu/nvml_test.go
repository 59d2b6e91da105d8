//go:build cgo

package gpu

import (
	"fmt"
	"strings"
	"testing"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
)

// mocked is a library over go-nvml's mock of a machine, whose loading is left out.
type mocked struct{ library }

func (*mocked) load() (bool, error) { return false, nil }

// complete answers what the mock of a machine leaves open.
func complete(s *server.Server) *mocked {
	for i, d := range s.Devices {
		d := &d.(*server.Device).Device
		d.GetPciInfoFunc = func() (nvml.PciInfo, nvml.Return) {
			p := nvml.PciInfo{Bus: uint32(i)}
			for j, b := range []byte(busID(i)) {
				p.BusId[j] = int8(b)
			}
			return p, nvml.SUCCESS
		}
		d.GetUtilizationRatesFunc = func() (nvml.Utilization, nvml.Return) {
			return nvml.Utilization{Gpu: 7, Memory: 3}, nvml.SUCCESS
		}
		d.GetEncoderUtilizationFunc = func() (uint32, uint32, nvml.Return) { return 0, 0, nvml.ERROR_NOT_SUPPORTED }
		d.GetDecoderUtilizationFunc = func() (uint32, uint32, nvml.Return) { return 12, 1000, nvml.SUCCESS }
		d.GetEncoderCapacityFunc = func(nvml.EncoderType) (int, nvml.Return) { return 0, nvml.ERROR_NOT_SUPPORTED }
		d.GetEncoderStatsFunc = func() (int, uint32, uint32, nvml.Return) { return 0, 0, 0, nvml.SUCCESS }
	}
	return &mocked{library{nvml: s}}
}

func busID(i int) string { return fmt.Sprintf("00000000:%02X:00.0", i) }

func TestLibraryOfDataCentreMachines(t *testing.T) {
	for _, c := range []struct {
		machine                     *server.Server
		name, architecture, compute string
	}{
		{dgxa100.New(), "NVIDIA A100", "Ampere", "8.0"},
		{dgxh200.New(), "NVIDIA H200", "Hopper", "9.0"},
	} {
		r, _ := taken(t, complete(c.machine))
		if r.State != OK || len(r.GPUs) != 8 || r.Driver == "" {
			t.Fatalf("%s: report %+v", c.name, r)
		}
		for i, g := range r.GPUs {
			if g.Index != i || !strings.Contains(g.Name, c.name) || g.UUID == "" || g.PCI != busID(i) || g.Architecture != c.architecture || g.Compute != c.compute || g.MemoryTotal == nil {
				t.Errorf("%s: card %+v", c.name, g)
			}
			if g.NVENC.Present != No || g.Encoder != nil || *g.Decoder != 12 || *g.Busy != 7 {
				t.Errorf("%s: card %+v", c.name, g)
			}
		}
		if got, ok := r.Find(r.GPUs[3].UUID); !ok || got.Index != 3 {
			t.Errorf("find by UUID: %+v, %v", got, ok)
		}
		if got, ok := r.Find("5"); !ok || got.Index != 5 {
			t.Errorf("find by index: %+v, %v", got, ok)
		}
		if _, ok := r.Find(""); ok {
			t.Error("the empty id found a GPU")
		}
	}
}

func TestCardTranslatesTheLibrary(t *testing.T) {
	d := &mock.Device{
		GetBrandFunc: func() (nvml.BrandType, nvml.Return) { return nvml.BRAND_GEFORCE_RTX, nvml.SUCCESS },
		GetEncoderCapacityFunc: func(e nvml.EncoderType) (int, nvml.Return) {
			switch e {
			case nvml.ENCODER_QUERY_H264:
				return 100, nvml.SUCCESS
			case nvml.ENCODER_QUERY_HEVC:
				return 0, nvml.ERROR_GPU_IS_LOST
			}
			return 0, nvml.ERROR_INVALID_ARGUMENT
		},
		GetEncoderStatsFunc: func() (int, uint32, uint32, nvml.Return) { return 3, 59, 2100, nvml.SUCCESS },
	}
	c := &card{nvml: d}
	if v, err := c.consumer(); !v || err != nil {
		t.Errorf("consumer %v, %v", v, err)
	}
	if v, err := c.capacity("h264"); v != 100 || err != nil {
		t.Errorf("h264 %d, %v", v, err)
	}
	if _, err := c.capacity("h265"); err == nil || isNotSupported(err) {
		t.Errorf("h265 on a lost GPU: %v, want an error other than not supported", err)
	}
	if _, err := c.capacity("av1"); !isNotSupported(err) {
		t.Errorf("av1 on a driver that does not know it: %v, want not supported", err)
	}
	if v, err := c.sessions(); err != nil || v != (Encodes{3, 59, 2100}) {
		t.Errorf("sessions %+v, %v", v, err)
	}
	c.has = func(string) bool { return false }
	if _, err := c.sessions(); err == nil || isNotSupported(err) {
		t.Errorf("sessions of an old driver: %v", err)
	}
}

func isNotSupported(err error) bool { _, ok := err.(notSupported); return ok }
