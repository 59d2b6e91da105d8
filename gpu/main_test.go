package gpu

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also the child of the inventories under test.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "gpu-probe":
			os.Exit(ProbeMain(os.Stdout))
		case "fake-probe": // a driver that answers
			os.Exit(probe(&fakeDriver{cards: []fakeCard{ada()}}, os.Stdout))
		case "noisy-probe": // a library that writes where the report goes
			fmt.Println("NVRM: {\"odd\": 1}")
			fmt.Print("no newline at the end")
			fmt.Println()
			code := probe(&fakeDriver{cards: []fakeCard{ada()}}, os.Stdout)
			fmt.Println("goodbye")
			os.Exit(code)
		case "dying-probe":
			fmt.Println(`{"stage":"asking GPU 0"}`)
			fmt.Fprintln(os.Stderr, "symbol lookup error: undefined symbol: nvmlDeviceGetBrand")
			os.Exit(127)
		case "silent-probe":
			os.Exit(0)
		}
	}
	goleak.VerifyTestMain(m)
}
