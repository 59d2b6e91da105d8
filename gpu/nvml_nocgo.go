//go:build !cgo

package gpu

import "errors"

var errNotBuiltIn = errors.New("this binary was built without NVIDIA support (CGO_ENABLED=0)")

func nvidia() driver { return absent{} }

// absent is the driver of a binary that cannot load libraries.
type absent struct{}

func (absent) load() (bool, error)        { return false, errNotBuiltIn }
func (absent) init() error                { return errNotBuiltIn }
func (absent) version() (string, error)   { return "", errNotBuiltIn }
func (absent) count() (int, error)        { return 0, errNotBuiltIn }
func (absent) device(int) (device, error) { return nil, errNotBuiltIn }
