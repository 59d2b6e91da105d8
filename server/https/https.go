// Package https is the listener: TLS, HTTP/2, and a bound for everything that a
// client can make last. It imports the vocabulary of media only.
package https

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"fenrir/media"
)

// Server is the HTTPS listener with its bounds. The zero values of its fields
// but Handler and Certificate are fine.
type Server struct {
	Handler     http.Handler
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Log         *slog.Logger
	// Grace is how long Serve waits for answers under way when it ends; 0: 3 s.
	Grace time.Duration
}

// Serve answers on l until ctx ends, then lets requests under way finish within
// Grace and cuts the rest. It closes l. Websockets are their door's to end: they
// see the end of ctx as the end of their requests' context, with a *media.Cause
// server-shutdown. The error is nil when ctx ended and nothing was left.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(context.Canceled)
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		Handler: s.Handler,
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: s.Certificate,
			NextProtos:     []string{"h2", "http/1.1"},
		},
		// Bounds the TLS handshake as well. Bodies and answers have deadlines per
		// request, which the handler sets.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		// A dead HTTP/2 connection is noticed although nothing is written to it.
		HTTP2:       &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 10 * time.Second, WriteByteTimeout: 30 * time.Second},
		BaseContext: func(net.Listener) context.Context { return requests },
		ErrorLog:    slog.NewLogLogger(quiet{log.Handler()}, slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTPS: %w", err)
	case <-ctx.Done():
	}
	end(media.NewCause(media.CauseShutdown, "the server is going down"))
	grace := s.Grace
	if grace == 0 {
		grace = 3 * time.Second
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := srv.Shutdown(bounded)
	if err != nil {
		err = errors.Join(fmt.Errorf("requests were still under way after %s: %w", grace, err), srv.Close())
	}
	<-served // returns as soon as the listener is closed
	return err
}

// quiet drops the lines that every scanner and every browser which does not
// like a self-signed certificate causes.
type quiet struct{ slog.Handler }

// Handle is slog.Handler's.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	noise := strings.Contains(r.Message, "TLS handshake error") || strings.Contains(r.Message, "error reading preface")
	if noise && !q.Handler.Enabled(ctx, slog.LevelDebug) {
		return nil
	}
	return q.Handler.Handle(ctx, r)
}
