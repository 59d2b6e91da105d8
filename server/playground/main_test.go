package playground

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// childVariable turns the test binary into the playground.
const childVariable = "FENRIR_PLAYGROUND_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(Main(context.Background(), os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}
