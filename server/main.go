// Command fenrir streams games and desktops to browser tabs over WebRTC, and is
// also every helper process that it needs: it runs itself again as media worker,
// desktop supervisor, probe and playground.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"fenrir/gpu"
	"fenrir/media/desktop"
	"fenrir/media/pipeline"
	"fenrir/media/slack"
	"fenrir/server/config"
	"fenrir/server/playground"
)

// self is how this binary is run again: the path stays good when the file is
// replaced by a newer version meanwhile.
const self = "/proc/self/exe"

const usage = `fenrir streams games and desktops to a browser tab.

usage: fenrir [command] [flags]

commands:
  serve       serve players (what fenrir does without a command)
  playground  the built-in program, on the display that DISPLAY names
  user        list, add, remove persons and set passwords, while the server is down
  doctor      look at this machine for what fenrir needs, and say what to do
  config      print a configuration file with every setting, its meaning and default
  version     print the version

fenrir COMMAND -h tells the flags of a command.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	command := "serve"
	if len(args) > 0 && len(args[0]) > 0 && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	switch command { // the helper processes, which only fenrir itself starts
	case "media-worker":
		return mediaWorker(args)
	case "media-probe":
		return pipeline.ProbeMain(args, os.Stdout)
	case "gpu-probe":
		return gpu.ProbeMain(os.Stdout)
	case "desktop":
		return desktop.Main(os.NewFile(3, "parent"))
	}

	if command == "serve" {
		if err := slack.Loosen(); err != nil {
			fmt.Fprintln(os.Stderr, "fenrir: timers stay exact, which takes more CPU:", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	var err error
	switch command {
	case "serve":
		err = serve(ctx, args, os.Stdout)
	case "playground":
		return playground.Main(ctx, args)
	case "doctor":
		var status int
		if status, err = examine(ctx, args, os.Stdout); err == nil {
			return status
		}
	case "user":
		err = user(ctx, args, os.Stdin, os.Stdout)
	case "config":
		_, err = io.WriteString(os.Stdout, config.Example())
	case "version":
		_, err = fmt.Println("fenrir", version())
	case "help":
		_, err = io.WriteString(os.Stdout, usage)
	default:
		fmt.Fprintf(os.Stderr, "fenrir: no command %q\n\n%s", command, usage)
		return 2
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(os.Stderr, "fenrir:", err)
		return 1
	}
	return 0
}

// version is the module's version, or the commit that was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v, dirty := info.Main.Version, ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision" && (v == "" || v == "(devel)"):
			v = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = " (modified)"
		}
	}
	if v == "" {
		v = "unknown"
	}
	return v + dirty
}
