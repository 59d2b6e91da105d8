package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fenrir/gpu"
	"fenrir/media"
	"fenrir/media/worker"
	"fenrir/server/catalog"
	"fenrir/server/cert"
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
	results := doctor.Run(ctx, append(checks, examination(cfg)...))
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

// examination is what doctor looks at.
func examination(cfg config.Config) []doctor.Check {
	ours := func(ctx context.Context) bool {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		return answers(ctx, cfg.HTTP.Listen) == nil
	}
	checks := []doctor.Check{
		{Name: "HTTPS port", Look: doctor.TCPPort(cfg.HTTP.Listen, ours)},
		{Name: "media, UDP", Look: doctor.UDP(cfg.Network.UDPListen, ours)},
	}
	if cfg.Network.TCPListen != "" {
		checks = append(checks, doctor.Check{Name: "media, TCP", Look: doctor.TCPPort(cfg.Network.TCPListen, ours)})
	}
	file, self := cfg.HTTP.CertFile, cfg.HTTP.CertFile == ""
	if self {
		file = filepath.Join(cfg.State.Dir, "tls", "cert.pem")
	}
	checks = append(checks,
		doctor.Check{Name: "addresses", Look: func(context.Context) doctor.Result { return reach(cfg.Network) }},
		doctor.Check{Name: "certificate", Look: doctor.Certificate(file, self, publicNames(cfg), time.Now)},
		doctor.Check{Name: "encoders", Look: func(ctx context.Context) doctor.Result { return encoders(ctx, cfg.Video) }},
		doctor.Check{Name: "GPU", Look: gpus},
	)
	if cfg.Display.Kind == config.DisplayXvfb {
		checks = append(checks, doctor.Check{Name: "X server", Look: doctor.Xvfb})
	}
	if cfg.Audio.Enabled {
		checks = append(checks, doctor.Check{Name: "sound server", Look: doctor.Sound})
	}
	home, _ := os.UserHomeDir() // without one there are the system's fonts
	return append(checks,
		doctor.Check{Name: "programs", Look: func(ctx context.Context) doctor.Result { return programs(ctx, cfg) }},
		doctor.Check{Name: "fonts", Look: doctor.Fonts([]string{"/usr/share/fonts", "/usr/local/share/fonts", filepath.Join(home, ".local/share/fonts")})},
		doctor.Check{Name: "state folder", Look: doctor.Folder(cfg.State.Dir)},
		doctor.Check{Name: "runtime folder", Look: doctor.Folder(cfg.State.RuntimeDir)},
		doctor.Check{Name: "shared memory", Look: doctor.SharedMemory(cfg.Sessions.MaxTotal)},
		doctor.Check{Name: "limits", Look: doctor.Limits(cfg.Sessions.MaxTotal)},
		doctor.Check{Name: "control groups", Look: doctor.ControlGroups},
		doctor.Check{Name: "namespaces", Look: doctor.Namespaces},
		doctor.Check{Name: "clock", Look: doctor.Clock},
	)
}

// publicNames are the names and addresses under which players come, as far as the
// configuration tells.
func publicNames(cfg config.Config) (names []string) {
	for _, o := range cfg.HTTP.PublicOrigins {
		if u, err := url.Parse(o); err == nil {
			names = append(names, u.Hostname())
		}
	}
	return names
}

// reach tells which addresses players will be offered.
func reach(n config.Network) doctor.Result {
	offered := slices.Clone(n.NAT1To1IPs)
	private := true
	for _, a := range cert.Hosts() {
		ip := net.ParseIP(a)
		if ip == nil || ip.IsLoopback() && !n.IncludeLoopback {
			continue
		}
		private = private && (ip.IsPrivate() || ip.IsLoopback())
		offered = append(offered, a)
	}
	switch {
	case len(offered) == 0:
		return doctor.Warnf("Connect the machine, or set network.nat_1to1_ips.", "This machine has no address but loopback: only players on it can be served.")
	case private && len(n.NAT1To1IPs) == 0 && len(n.ICEServers) == 0:
		return doctor.Warnf("For players from outside set network.nat_1to1_ips to the public address and forward the ports; in the same network nothing is needed.",
			"Players are offered %s, all of them private.", strings.Join(offered, ", "))
	}
	return doctor.Good("Players are offered %s.", strings.Join(offered, ", "))
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

// programs tells what will be offered.
func programs(ctx context.Context, cfg config.Config) doctor.Result {
	c := catalog.New(catalog.Options{
		Exe: self, Config: cfg.Catalog, Apps: cfg.Apps, Locale: os.Getenv("LANG"), Environ: os.Environ(), Log: slog.New(slog.DiscardHandler),
	})
	apps := c.List(ctx)
	bare, games := []string{}, 0
	for _, a := range apps {
		if a.Game {
			games++
		}
		if !c.HasIcon(ctx, a.ID) {
			bare = append(bare, a.ID)
		}
	}
	switch {
	case len(apps) == 0:
		return doctor.Warnf("Install games (apt-get install pingus), or name programs as [[apps]] in the configuration.", "No program is offered.")
	case len(bare) > 0:
		return doctor.Good("%d programs are offered, %d of them games. Without an icon: %s.", len(apps), games, strings.Join(bare, ", "))
	}
	return doctor.Good("%d programs are offered, %d of them games; all have icons.", len(apps), games)
}
