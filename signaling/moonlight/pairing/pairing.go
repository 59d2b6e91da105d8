// Package pairing brings a Moonlight client and a person together: four requests
// of a client that does not know the server yet, and a PIN of four digits that
// the client shows and a person types here. It is the state machine and its
// cryptography; HTTP is its caller's.
//
// What the PIN protects is small, so one PIN is good for one attempt: whatever
// goes wrong after it was typed ends the attempt, and failures make the next one
// wait. Facts are from "moonlight protocol", section 5.
//
// It imports media.
package pairing

import (
	"context"
	"crypto/x509"
	"errors"
	"net/netip"
	"time"

	"fenrir/media"
)

// What ends a pairing, or refuses one. Those of the person who types a PIN come
// from Enter, the others from the client's requests; some from both.
var (
	ErrProtocol = errors.New("not a request that pairing knows")                       // the client's fault
	ErrOrder    = errors.New("a step of pairing that was not the next")                // the client's fault
	ErrNone     = errors.New("no pairing is under way with this client")               // or no more
	ErrWrongPIN = errors.New("the PIN was not the one that the device shows")          // or somebody is between the two
	ErrGone     = errors.New("the device has given up")                                // hung up, or did not go on
	ErrExpired  = errors.New("nobody entered the PIN in time")                         // the client may begin again
	ErrReplaced = errors.New("the device began to pair anew")                          // an older attempt of it ends
	ErrTooMany  = errors.New("too many devices wait to be paired")                     // in all, or at this address
	ErrClosed   = errors.New("devices are not paired now")                             // after Close
	ErrNotFound = errors.New("no such device waits to be paired")                      // Enter's
	ErrPIN      = errors.New("a PIN has four digits")                                  // Enter's; nothing was attempted
	ErrEntered  = errors.New("a PIN was entered for this device already")              // Enter's
	ErrBusy     = errors.New("another device at the same address is pairing just now") // Enter's; good again within seconds
)

// Client is what finds a pairing again in the client's next request. Neither part
// identifies a device: most clients send the same id, and a household shares an
// address.
type Client struct {
	UniqueID string // as sent, at most 64 bytes
	Address  netip.Addr
}

// Ask is a client's first request.
type Ask struct {
	Client
	Name        string // what the client calls itself; "" for nothing of use
	Salt        []byte // 16 bytes
	Certificate []byte // PEM text
}

// Request is a device that waits for a person to type its PIN.
type Request struct {
	ID      string     // for Enter; random
	Name    string     // what the device calls itself, often ""; nothing in it can be trusted
	Address netip.Addr // where it asks from
	Since   time.Time
	Until   time.Time // then it is told that nobody came
	Entered bool      // a PIN was entered, its outcome is not known yet
}

// Device is a client that has proved to know the PIN, and to hold the key of its
// certificate.
type Device struct {
	Certificate *x509.Certificate
	Name        string // what it calls itself, often ""
	Address     netip.Addr
	Person      media.PersonRef // who typed the PIN: its owner
}

// Trust is who remembers paired devices.
type Trust interface {
	// Add remembers a device for good, in place of one with the same key. Its
	// certificate is accepted as soon as Add has returned nil. It may block until
	// ctx ends.
	Add(ctx context.Context, d Device) error
}
