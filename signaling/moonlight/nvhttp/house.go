package nvhttp

import (
	"context"
	"crypto/x509"
	"errors"

	"fenrir/media"
	"fenrir/signaling/moonlight/pairing"
)

// Device is a paired client.
type Device struct {
	ID     string          // of the house; it never changes
	Name   string          // for people
	Person media.PersonRef // whom it belongs to; it sees this person's programs and session, nothing else
}

// ErrUnknown is what Devices.Find says of a certificate that it does not know.
var ErrUnknown = errors.New("not a paired device")

// Devices is the house's memory of paired clients. None of its methods may take
// longer than reading or writing a small local file.
type Devices interface {
	// Add is pairing's: Find knows the device as soon as Add has returned nil. One
	// with the same key is replaced, whoever it belonged to: it has shown the PIN.
	pairing.Trust
	// Find is the device that presents this certificate: pairing.KeyID finds it, and
	// the certificate is the one that was remembered, byte for byte (c.Raw). Any
	// difference, and a device whose person is gone or may not log in any more, is
	// ErrUnknown. Dates and chains are not looked at. It is called for each request,
	// several a second, and is where the house may note that the device was there.
	Find(ctx context.Context, c *x509.Certificate) (Device, error)
	// Forget ends the trust in a device because the device itself asks for it. One
	// that is not known is no error.
	Forget(ctx context.Context, id string) error
}

// Program is something that a person may start.
type Program struct {
	ID    string // of the catalogue
	Title string // not empty
	// Picture changes when the program's icon does (a hash, or path, size and time of
	// its file); "" is no icon. Clients keep a picture for ever by the app's number,
	// which is made of ID and Picture.
	Picture string
}

// Programs is the catalogue as one person sees it.
type Programs interface {
	// List is what the person may start, in any order. It may wait for a scan of the
	// disk until ctx ends.
	List(ctx context.Context, person media.PersonRef) ([]Program, error)
	// Icon is the program's icon as PNG, square or nearly, best 128 pixels or more.
	// nil without an error is no icon.
	Icon(ctx context.Context, person media.PersonRef, program string) ([]byte, error)
}

// Running is a session that a person's devices can resume.
type Running struct {
	Session string // id
	Program string // id in the catalogue
	Title   string // of the program
}

// Order is a session to be started for a device.
type Order struct {
	Device  Device
	Program string // id in the catalogue, one that List told
	Width   int    // pixels, 64…16384, even
	Height  int
	FPS     int // 1…1000
	HDR     bool
}

// Sessions are the sessions of persons.
type Sessions interface {
	// Find is the session of the person that a device resumes, the newest if there
	// are several; false for none. One that is ending is not found. It does not block.
	Find(person media.PersonRef) (Running, bool)
	// Start starts one and does not wait until it is up. A *media.Cause in the chain
	// of its error is told to the client.
	Start(ctx context.Context, o Order) (Running, error)
	// End ends one and does not block. From its return on Find does not find it.
	End(session string, cause *media.Cause)
}
