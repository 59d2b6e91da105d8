package gpu

import "errors"

// fakeDriver answers as it was told to.
type fakeDriver struct {
	missing          bool
	loadErr, initErr error
	countErr         error
	cards            []fakeCard
}

func (d *fakeDriver) load() (bool, error)      { return d.missing, d.loadErr }
func (d *fakeDriver) init() error              { return d.initErr }
func (d *fakeDriver) version() (string, error) { return "570.86.10", nil }
func (d *fakeDriver) count() (int, error)      { return len(d.cards), d.countErr }
func (d *fakeDriver) device(i int) (device, error) {
	if d.cards[i].lost {
		return nil, errors.New("handle: gpu is lost")
	}
	return d.cards[i], nil
}

// fakeCard is a GPU; a question that is listed in silent is not answered.
type fakeCard struct {
	title, cc string
	geforce   bool
	lost      bool
	silent    bool // answers nothing but its name
	free      map[string]int
	refuses   bool // says "not supported" to a codec that is not in free, otherwise another error
	open      Encodes
}

var errSilent = errors.New("no answer")

func (c fakeCard) text(s string) (string, error) {
	if c.silent {
		return "", errSilent
	}
	return s, nil
}

func (c fakeCard) number(n int) (int, error) {
	if c.silent {
		return 0, errSilent
	}
	return n, nil
}

func (c fakeCard) uuid() (string, error)         { return c.text("GPU-" + c.title) }
func (c fakeCard) name() (string, error)         { return c.title, nil }
func (c fakeCard) pci() (string, error)          { return c.text("00000000:01:00.0") }
func (c fakeCard) architecture() (string, error) { return c.text("some") }
func (c fakeCard) compute() (string, error)      { return c.text(c.cc) }
func (c fakeCard) busy() (int, error)            { return c.number(40) }
func (c fakeCard) encoder() (int, error)         { return c.number(0) }
func (c fakeCard) decoder() (int, error)         { return 0, errSilent }

func (c fakeCard) consumer() (bool, error) {
	if c.silent {
		return false, errSilent
	}
	return c.geforce, nil
}

func (c fakeCard) memory() (uint64, uint64, error) {
	if c.silent {
		return 0, 0, errSilent
	}
	return 24 << 30, 1 << 30, nil
}

func (c fakeCard) capacity(codec string) (int, error) {
	if v, ok := c.free[codec]; ok {
		return v, nil
	}
	if c.refuses {
		return 0, notSupported{codec}
	}
	return 0, errSilent
}

func (c fakeCard) sessions() (Encodes, error) {
	if c.silent {
		return Encodes{}, errSilent
	}
	return c.open, nil
}

func ada() fakeCard {
	return fakeCard{title: "NVIDIA GeForce RTX 4090", cc: "8.9", geforce: true, refuses: true,
		free: map[string]int{"h264": 100, "h265": 100, "av1": 97}, open: Encodes{Count: 2, AverageFPS: 60, AverageMicros: 1500}}
}
