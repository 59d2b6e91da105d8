// Package e2e drives the built binary from outside, as its users do: over
// HTTPS, websocket, WebRTC and a real browser. It imports nothing of ours, so
// whatever it knows of the layout of a packet or a picture it knows from the
// documents. Tests that need the whole machine (GStreamer, Xvfb, PulseAudio,
// Chromium) carry the build tag e2e.
package e2e
