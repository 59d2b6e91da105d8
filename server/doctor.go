package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/media/worker"
	"fenrir/server/config"
	"fenrir/server/doctor"
	"fenrir/server/session"
)

const doctorUsage = `usage: fenrir doctor [-config FILE] [-json]

looks at this machine for what fenrir needs, with the configuration that serve
would use, and says what to do. The exit status is 0 when all is fine, 1 when
something could be better, 2 when something is broken. It takes 15 s at most.
`

// examine is the command doctor. It returns the exit status.
func examine(ctx context.Context, args []string, out *os.File) (int, error) {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	path := flags.String("config", "", "configuration `file`")
	asJSON := flags.Bool("json", false, "write JSON")
	flags.Usage = func() { io.WriteString(flags.Output(), doctorUsage) } // to a terminal
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if flags.NArg() > 0 {
		return 2, fmt.Errorf("doctor takes no arguments, got %q", flags.Args())
	}
	cfg, err := config.Load(*path, os.Environ())
	var checks []doctor.Check
	if err != nil {
		wrong := strings.ReplaceAll(err.Error(), "\n", "; ")
		checks = append(checks, doctor.Check{Name: "configuration", Look: func(context.Context) doctor.Result {
			return doctor.Failf("Mend what is named; \"fenrir config\" prints every setting with its meaning.", "%s.", wrong)
		}})
		if cfg, err = config.Load("", homeOnly(os.Environ())); err != nil {
			return 2, err
		}
	} else {
		checks = append(checks, doctor.Check{Name: "configuration", Look: func(context.Context) doctor.Result {
			return doctor.Good("%s is good.", cmp.Or(*path, "The default"))
		}})
	}
	results := doctor.Run(ctx, append(checks, doctor.Checks(cfg, doctor.Machine{
		Exe: self, Answers: answers, GPU: gpus,
		Encoders: func(ctx context.Context) doctor.Result { return encoders(ctx, cfg.Video) },
	})...))
	if *asJSON {
		err = doctor.JSON(out, results)
	} else {
		err = doctor.Print(out, results, isTerminal(out) && os.Getenv("NO_COLOR") == "")
	}
	return int(doctor.Worst(results)), err
}

// homeOnly is the environment without settings of ours.
func homeOnly(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool { return strings.HasPrefix(kv, "FENRIR_") })
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// encoders tries them as the server does when it starts.
func encoders(ctx context.Context, v config.Video) doctor.Result {
	found := session.Encoders{Found: worker.Probe(ctx, self, []string{"media-probe"}, slog.New(slog.DiscardHandler)), Want: v.Encoder}
	for _, c := range v.Codecs {
		found.Order = append(found.Order, media.Codec(c))
	}
	c, err := found.Choose(found.Order)
	if err != nil {
		return doctor.Failf("apt-get install gstreamer1.0-plugins-ugly gstreamer1.0-plugins-good, or set video.encoder to one that works.", "%v.", err)
	}
	var works, not []string
	for _, e := range found.Found {
		if e.Works {
			works = append(works, e.Name)
		} else {
			not = append(not, e.Name)
		}
	}
	text := fmt.Sprintf("%s is taken. Works: %s.", c.Encoder.Name, strings.Join(works, ", "))
	if len(not) > 0 {
		text += " Does not: " + strings.Join(not, ", ") + " (GET /api/server says why)."
	}
	return doctor.Good("%s", text)
}

// gpus asks the driver as the server does.
func gpus(ctx context.Context) doctor.Result {
	report, err := gpu.Inventory(ctx, self, []string{"gpu-probe"})
	note := report.Note()
	switch {
	case err != nil:
		return doctor.Warnf("", "GPUs cannot be looked for: %v.", err)
	case report.State == gpu.NoDriver:
		return doctor.Good("%s Encoding is done on the CPU.", note)
	case report.State != gpu.OK:
		return doctor.Warnf("Try nvidia-smi; a driver that hangs or does not fit its kernel module wants a reboot.", "%s", note)
	}
	names := make([]string, len(report.GPUs))
	for i, g := range report.GPUs {
		names[i] = g.Name
	}
	return doctor.Good("%s, driver %s. %s", strings.Join(names, ", "), report.Driver, note)
}
