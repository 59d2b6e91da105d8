package signaling

import (
	"errors"

	"fenrir/media"
)

// Close codes of the websocket. Terminal ones keep the client down until a
// person acts; the others say retry in the Bye before them.
const (
	CloseLeft       = 1000
	CloseInternal   = 1011 // retry
	CloseSuperseded = 4000
	CloseEnded      = 4001
	CloseRevoked    = 4002
	CloseProtocol   = 4003
	CloseNotFound   = 4004
	CloseVersion    = 4005
	CloseNoEncoder  = 4006
	CloseTooMany    = 4007
	CloseICE        = 4008 // retry
	CloseShutdown   = 4009 // retry
)

// CauseInternal is the code of a fault of ours; its detail stays in our log.
const CauseInternal = "internal"

// CloseCode is the close code for a cause's code, and whether the client may
// come back by itself.
func CloseCode(code string) (status int, retry bool) {
	switch code {
	case media.CauseLeft:
		return CloseLeft, false
	case media.CauseSuperseded:
		return CloseSuperseded, false
	case media.CauseRevoked:
		return CloseRevoked, false
	case media.CauseProtocol, media.CauseNegotiation:
		return CloseProtocol, false
	case media.CauseSessionGone:
		return CloseNotFound, false
	case media.CauseVersion:
		return CloseVersion, false
	case media.CauseNoEncoder, media.CauseNoSlot:
		return CloseNoEncoder, false
	case media.CauseTooMany:
		return CloseTooMany, false
	case media.CauseICE, media.CauseLost, media.CauseNoPicture:
		return CloseICE, true
	case media.CauseShutdown:
		return CloseShutdown, true
	case CauseInternal:
		return CloseInternal, true
	}
	// Whatever else ends an attachment is the end of its session.
	return CloseEnded, false
}

// ByeFor says farewell for err: a *media.Cause in its chain is told as it is,
// anything else is CauseInternal without detail.
func ByeFor(err error) Bye {
	var c *media.Cause
	if !errors.As(err, &c) {
		c = &media.Cause{Code: CauseInternal, Detail: "something went wrong in the server"}
	}
	_, retry := CloseCode(c.Code)
	return Bye{Code: c.Code, Detail: c.Detail, Output: c.Output, Retry: retry}
}
