package ports

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pion/logging"
)

// Logger hands pion's log lines to slog, one level lower: what pion calls a
// warning is everyday life of a network.
type Logger struct{ To *slog.Logger }

// NewLogger implements pion's LoggerFactory.
func (l Logger) NewLogger(scope string) logging.LeveledLogger {
	return pionScope{l.To.With("pion", scope)}
}

type pionScope struct{ to *slog.Logger }

const levelTrace = slog.LevelDebug - 4

func (l pionScope) at(level slog.Level, format string, args ...any) {
	if !l.to.Enabled(context.TODO(), level) {
		return
	}
	if len(args) > 0 {
		format = fmt.Sprintf(format, args...)
	}
	l.to.Log(context.TODO(), level, "pion", "msg_pion", format)
}

func (l pionScope) Trace(msg string)                  { l.at(levelTrace, msg) }
func (l pionScope) Tracef(format string, args ...any) { l.at(levelTrace, format, args...) }
func (l pionScope) Debug(msg string)                  { l.at(levelTrace, msg) }
func (l pionScope) Debugf(format string, args ...any) { l.at(levelTrace, format, args...) }
func (l pionScope) Info(msg string)                   { l.at(slog.LevelDebug, msg) }
func (l pionScope) Infof(format string, args ...any)  { l.at(slog.LevelDebug, format, args...) }
func (l pionScope) Warn(msg string)                   { l.at(slog.LevelDebug, msg) }
func (l pionScope) Warnf(format string, args ...any)  { l.at(slog.LevelDebug, format, args...) }
func (l pionScope) Error(msg string)                  { l.at(slog.LevelInfo, msg) }
func (l pionScope) Errorf(format string, args ...any) { l.at(slog.LevelInfo, format, args...) }
