// Package systemd tells the service manager that started this process how it is:
// ready, stopping, and, as long as that is true, alive. It speaks the protocol of
// sd_notify(3) and imports the standard library only.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// Manager is the service manager. One that is not there is told nothing.
type Manager struct {
	socket string
	// Watchdog is how often it wants to hear that the process is alive; 0: never.
	Watchdog time.Duration
}

// New finds the manager by the environment, and pid is this process.
func New(getenv func(string) string, pid int) Manager {
	m := Manager{socket: getenv("NOTIFY_SOCKET")}
	if m.socket == "" {
		return m
	}
	if p := getenv("WATCHDOG_PID"); p != "" && p != strconv.Itoa(pid) {
		return m // another process is meant
	}
	if n, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64); err == nil && n > 0 {
		m.Watchdog = time.Duration(n) * time.Microsecond
	}
	return m
}

// Forget takes the manager's address out of the environment: children are not to
// speak to it.
func Forget() error {
	return errors.Join(os.Unsetenv("NOTIFY_SOCKET"), os.Unsetenv("WATCHDOG_USEC"), os.Unsetenv("WATCHDOG_PID"))
}

// Present tells whether there is a manager.
func (m Manager) Present() bool { return m.socket != "" }

// Ready tells that the service is up; status is a line for people.
func (m Manager) Ready(status string) error {
	return m.notify("READY=1\nSTATUS=" + oneLine(status))
}

// Stopping tells that the service is going down.
func (m Manager) Stopping() error { return m.notify("STOPPING=1") }

// Alive pets the watchdog.
func (m Manager) Alive() error { return m.notify("WATCHDOG=1") }

// Status tells a line for people.
func (m Manager) Status(status string) error { return m.notify("STATUS=" + oneLine(status)) }

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// notify sends one datagram. It blocks for a second at most.
func (m Manager) notify(state string) error {
	if m.socket == "" {
		return nil
	}
	name := m.socket
	if strings.HasPrefix(name, "@") {
		name = "\x00" + name[1:] // an abstract address
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	if _, err := conn.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager: %w", err)
	}
	return nil
}

// Watch is the server's own watchdog, which works without a manager, too.
type Watch struct {
	Manager Manager
	// Check asks the server what a client would ask, within its context.
	Check func(ctx context.Context) error
	// Failing is told when Check has failed Strikes times in a row, once until it
	// succeeds again: the manager is about to restart the process. May be nil.
	Failing func(err error)
	// Recovered is told when it succeeds again. May be nil.
	Recovered func()
	Every     time.Duration // between checks without a manager; 0: 10 s
}

// Strikes is how many checks in a row have to fail.
const Strikes = 2

// Run checks until ctx ends. Each check that succeeds pets the manager's watchdog:
// a server that answers nobody stops doing so, and is restarted.
func (w *Watch) Run(ctx context.Context) error {
	every := w.Every
	if every == 0 {
		every = 10 * time.Second
	}
	if d := w.Manager.Watchdog; d > 0 {
		every = min(every, d/4)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	strikes := 0
	for {
		bounded, cancel := context.WithTimeout(ctx, every)
		err := w.Check(bounded)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			err = w.Manager.Alive()
			if strikes >= Strikes && w.Recovered != nil {
				w.Recovered()
			}
			strikes = 0
		} else {
			strikes++
		}
		if strikes == Strikes && w.Failing != nil {
			w.Failing(err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
