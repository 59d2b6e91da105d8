//go:build e2e && bench

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"
)

// TestBench is make bench. BENCH names the parts ("latency,start"; all when
// empty), BENCH_SHORT=1 measures fewer things for a shorter time, BENCH_JSON
// and BENCH_MARKDOWN are the files that are written.
func TestBench(t *testing.T) {
	p := thorough
	if os.Getenv("BENCH_SHORT") == "1" {
		p = brief
	}
	p, err := p.only(os.Getenv("BENCH"))
	do(t, "BENCH", err)
	r := p.run(t)
	b, err := json.MarshalIndent(r, "", "  ")
	do(t, "marshal", err)
	for variable, content := range map[string]string{"BENCH_JSON": string(b) + "\n", "BENCH_MARKDOWN": r.markdown()} {
		if path := os.Getenv(variable); path != "" {
			do(t, "write", os.WriteFile(path, []byte(content), 0o644))
		}
	}
	fmt.Println("\n" + r.markdown())
}

// TestSoak is make soak. SOAK_MINUTES is how long, SOAK_JSON the file that is
// written. It fails when something certainly grows.
func TestSoak(t *testing.T) {
	k := soak(t, time.Duration(parseFloat(t, os.Getenv("SOAK_MINUTES"))*float64(time.Minute)))
	b, err := json.MarshalIndent(k, "", "  ")
	do(t, "marshal", err)
	if path := os.Getenv("SOAK_JSON"); path != "" {
		do(t, "write", os.WriteFile(path, append(b, '\n'), 0o644))
	}
	fmt.Println("\n" + k.markdown())
	for _, s := range k.Slopes {
		if s.grows() {
			t.Errorf("%s grows by at least %.3f a minute, %.3f is let pass", s.Quantity, s.Low, s.Limit)
		}
	}
}
