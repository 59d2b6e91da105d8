package journal

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestAJournalKeepsWhatTheLogLeavesOut(t *testing.T) {
	var out bytes.Buffer
	var b Books
	log := b.Open("s_1", slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))).With("session", "s_1", "encoder", "x264")
	log.Debug("quiet", "n", 1)
	log.WithGroup("g").Warn("loud", "n", 2, slog.Group("in", "k", "v"))
	lines, dropped, ok := b.Lines("s_1")
	if !ok || dropped != 0 || len(lines) != 2 {
		t.Fatalf("got %+v, %d, %t", lines, dropped, ok)
	}
	if lines[0].Text != "quiet encoder=x264 n=1" || lines[0].Level != "debug" || lines[1].Text != "loud encoder=x264 g.n=2 g.in.k=v" {
		t.Errorf("got %+v", lines)
	}
	if got := out.String(); strings.Contains(got, "quiet") || !strings.Contains(got, "session=s_1") || !strings.Contains(got, "loud") {
		t.Errorf("the log has %q", got)
	}
	if _, _, ok := b.Lines("s_2"); ok {
		t.Error("there is a journal of a session that never was")
	}
}

func TestAJournalIsBounded(t *testing.T) {
	var b Books
	log := b.Open("s_1", slog.New(slog.DiscardHandler))
	for i := range 3 * MaxLines {
		log.Info("line", "i", i)
	}
	lines, dropped, _ := b.Lines("s_1")
	if len(lines) != MaxLines || dropped != 2*MaxLines || !strings.HasSuffix(lines[0].Text, fmt.Sprint("i=", 2*MaxLines)) {
		t.Errorf("%d lines, %d dropped, the first is %q", len(lines), dropped, lines[0].Text)
	}
	for range 100 {
		log.Info(strings.Repeat("ä", MaxText))
	}
	lines, _, _ = b.Lines("s_1")
	size := 0
	for _, l := range lines {
		size += len(l.Text)
	}
	if size > MaxBytes || len(lines) < 10 {
		t.Errorf("%d bytes in %d lines, want at most %d", size, len(lines), MaxBytes)
	}
}

func TestOldJournalsGo(t *testing.T) {
	var b Books
	for i := range MaxPast + 10 {
		id := fmt.Sprint("s_", i)
		b.Open(id, slog.New(slog.DiscardHandler)).Info("here")
		b.End(id)
		b.End(id)
	}
	b.Open("s_living", slog.New(slog.DiscardHandler))
	for id, want := range map[string]bool{"s_0": false, "s_9": false, "s_10": true, "s_living": true} {
		if _, _, ok := b.Lines(id); ok != want {
			t.Errorf("%s: kept %t, want %t", id, ok, want)
		}
	}
}
