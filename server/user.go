package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"fenrir/server/auth"
	"fenrir/server/config"
)

const userUsage = `usage: fenrir user [-config FILE] list
       fenrir user [-config FILE] add NAME [admin|player]
       fenrir user [-config FILE] passwd NAME
       fenrir user [-config FILE] remove NAME

add and passwd read the password from the first line of standard input.
The server must not be running: it has the database open.
`

// user changes the database of persons from the command line: the way back in
// for an admin who forgot the password.
func user(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("user", flag.ContinueOnError)
	path := flags.String("config", "", "configuration `file`")
	flags.Usage = func() { io.WriteString(flags.Output(), userUsage) } // to a terminal
	if err := flags.Parse(args); err != nil {
		return err
	}
	cfg, err := config.Load(*path, os.Environ())
	if err != nil {
		return err
	}
	store, err := openStore(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer store.Close()
	switch rest := flags.Args(); {
	case len(rest) == 1 && rest[0] == "list":
		persons, err := store.Persons()
		for _, p := range persons {
			fmt.Fprintf(out, "%s\t%s\t%s\n", p.ID, p.Role, p.Name)
		}
		return err
	case len(rest) >= 2 && len(rest) <= 3 && rest[0] == "add":
		role := auth.Player
		if len(rest) == 3 {
			role = auth.Role(rest[2])
		}
		password, err := readPassword(in)
		if err != nil {
			return err
		}
		_, err = store.AddPerson(ctx, rest[1], password, role)
		return err
	case len(rest) == 2 && (rest[0] == "passwd" || rest[0] == "remove"):
		p, err := store.PersonNamed(rest[1])
		if err != nil {
			return err
		}
		if rest[0] == "remove" {
			return store.DeletePerson(p.ID)
		}
		password, err := readPassword(in)
		if err != nil {
			return err
		}
		return store.SetPassword(ctx, p.ID, password, "")
	}
	return fmt.Errorf("no user command %q; \"fenrir user -h\" tells those there are", flags.Args())
}

func readPassword(in io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(in, 4<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

// openStore opens the database of persons. The caller closes it.
func openStore(cfg config.Config, log *slog.Logger) (*auth.Store, error) {
	return auth.Open(auth.Options{
		Path:           filepath.Join(cfg.State.Dir, "fenrir.db"),
		CookieLifetime: cfg.Auth.CookieLifetime.Std(),
		MaxLogins:      cfg.Auth.MaxLogins,
		Argon2: auth.Params{
			MemoryMiB: cfg.Auth.Argon2MemoryMiB,
			Passes:    cfg.Auth.Argon2Passes,
			Lanes:     cfg.Auth.Argon2Lanes,
		},
		Hashing:   cfg.Auth.Argon2Parallel,
		PerMinute: cfg.Auth.LoginsPerMinute,
		Burst:     cfg.Auth.LoginBurst,
		Log:       log,
	})
}
