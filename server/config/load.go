package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile bounds the configuration file.
const maxFile = 1 << 20

//go:embed example.toml
var example string

// Example is a configuration file with every key, its meaning and its default.
func Example() string { return example }

// Load reads the file at path over the defaults, then the variables
// FENRIR_SECTION_KEY of environ over that, fills in the folders that are still
// empty, reads secret files, and validates. path may be empty: then there is no
// file. The error names every problem that was found, with file and line where
// there is one.
func Load(path string, environ []string) (Config, error) {
	c := Default()
	if path != "" {
		text, err := readBounded(path)
		if err != nil {
			return Config{}, fmt.Errorf("read configuration: %w", err)
		}
		if err := decode(text, &c); err != nil {
			return Config{}, fmt.Errorf("configuration %s: %w", path, err)
		}
	}
	if err := override(&c, environ); err != nil {
		return Config{}, fmt.Errorf("configuration from the environment: %w", err)
	}
	fillFolders(&c, environ)
	for i := range c.Network.ICEServers {
		if err := c.Network.ICEServers[i].readSecrets(); err != nil {
			return Config{}, fmt.Errorf("configuration: network.ice_servers[%d]: %w", i, err)
		}
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	return c, nil
}

func readBounded(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFile {
		return "", fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	return string(b), nil
}

// decode reads TOML into v; a key that v has no field for is an error.
func decode(text string, v any) error {
	md, err := toml.Decode(text, v)
	if err != nil {
		var pe toml.ParseError
		if errors.As(err, &pe) {
			return fmt.Errorf("line %d: %s", pe.Position.Line, keyed(pe))
		}
		return err
	}
	var errs []error
	for _, key := range md.Undecoded() {
		// Of an unknown table only the table itself is worth a line.
		if slices.ContainsFunc(errs, func(e error) bool {
			u, ok := e.(*unknownKey)
			return ok && strings.HasPrefix(key.String(), u.key+".")
		}) {
			continue
		}
		errs = append(errs, &unknownKey{key: key.String(), line: lineOf(text, key), like: nearest(key[len(key)-1], fieldsAt(reflect.TypeOf(v), key[:len(key)-1]))})
	}
	return errors.Join(errs...)
}

func keyed(pe toml.ParseError) string {
	if pe.LastKey == "" {
		return pe.Message
	}
	return pe.LastKey + ": " + pe.Message
}

type unknownKey struct {
	key  string
	line int // 0 when it could not be found
	like string
}

func (u *unknownKey) Error() string {
	var b strings.Builder
	if u.line > 0 {
		fmt.Fprintf(&b, "line %d: ", u.line)
	}
	fmt.Fprintf(&b, "there is no setting %q", u.key)
	if u.like != "" {
		fmt.Fprintf(&b, "; did you mean %q?", u.like)
	}
	return b.String()
}

// lineOf finds the line that writes key, by following the table headers. The
// parser keeps no positions; a key written in an unusual way gives 0.
func lineOf(text string, key toml.Key) int {
	want := strings.Join(key, ".")
	table := ""
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			head, _, ok := strings.Cut(strings.TrimLeft(line, "["), "]")
			if !ok {
				continue
			}
			table = plainKey(head)
			if table == want || strings.HasPrefix(table, want+".") {
				return i + 1
			}
			continue
		}
		left, _, ok := strings.Cut(line, "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		full := plainKey(left)
		if table != "" {
			full = table + "." + full
		}
		if full == want || strings.HasPrefix(full, want+".") {
			return i + 1
		}
		// A key inside an inline table stands on the line of its parent.
		if strings.HasPrefix(want, full+".") && bytes.Contains([]byte(line), []byte(key[len(key)-1])) {
			return i + 1
		}
	}
	return 0
}

// plainKey takes blanks and quotes out of a dotted key.
func plainKey(s string) string {
	return strings.NewReplacer(" ", "", "\t", "", `"`, "", "'", "").Replace(s)
}

// fieldsAt lists the keys that the struct at path within t has.
func fieldsAt(t reflect.Type, path []string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var names []string
	for f := range fields(t) {
		if len(path) > 0 && f.key == path[0] {
			return fieldsAt(f.typ, path[1:])
		}
		names = append(names, f.key)
	}
	if len(path) > 0 {
		return nil
	}
	return names
}

type field struct {
	key   string
	typ   reflect.Type
	index int
}

func fields(t reflect.Type) func(yield func(field) bool) {
	return func(yield func(field) bool) {
		for i := range t.NumField() {
			f := t.Field(i)
			if key := f.Tag.Get("toml"); key != "" && !yield(field{key, f.Type, i}) {
				return
			}
		}
	}
}

// nearest is the name of names that s was probably meant to be, or "".
func nearest(s string, names []string) string {
	best, dist := "", max(len(s)/3, 2)+1
	for _, n := range names {
		if d := distance(strings.ToLower(s), n); d < dist {
			best, dist = n, d
		}
	}
	return best
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diag
			if a[i] != b[j] {
				cost++
			}
			diag = row[j+1]
			row[j+1] = min(cost, row[j]+1, diag+1)
		}
	}
	return row[len(b)]
}

// envPrefix starts the name of every variable that sets something.
const envPrefix = "FENRIR_"

// override applies FENRIR_SECTION_KEY=value. Lists are separated by commas, or
// written as in TOML when they begin with "["; lists of tables are always
// written so. A variable with the name of a section and a key that is none is an
// error; other FENRIR_ variables are not ours to judge.
func override(c *Config, environ []string) error {
	root := reflect.ValueOf(c).Elem()
	var errs []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, envPrefix)
		if !ok {
			continue
		}
		for sec := range fields(root.Type()) {
			section := root.Field(sec.index)
			if section.Kind() != reflect.Struct {
				if rest == envName(sec.key) {
					errs = append(errs, wrapName(name, setValue(section, value)))
				}
				continue
			}
			key, ok := strings.CutPrefix(rest, envName(sec.key)+"_")
			if !ok {
				continue
			}
			found := false
			var names []string
			for f := range fields(section.Type()) {
				names = append(names, f.key)
				if key == envName(f.key) {
					found = true
					errs = append(errs, wrapName(name, setValue(section.Field(f.index), value)))
				}
			}
			if !found {
				u := &unknownKey{key: name}
				if like := nearest(strings.ToLower(key), names); like != "" {
					u.like = envPrefix + envName(sec.key) + "_" + envName(like)
				}
				errs = append(errs, u)
			}
		}
	}
	return errors.Join(errs...)
}

func envName(key string) string { return strings.ToUpper(key) }

func wrapName(name string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// setValue parses s into v. The errors do not repeat s: it may be a secret.
func setValue(v reflect.Value, s string) error {
	if u, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); ok {
		return u.UnmarshalText([]byte(s))
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("write true or false")
		}
		v.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("write a whole number")
		}
		v.SetInt(int64(n))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String && !strings.HasPrefix(strings.TrimSpace(s), "[") {
			list := []string{}
			for part := range strings.SplitSeq(s, ",") {
				if part = strings.TrimSpace(part); part != "" {
					list = append(list, part)
				}
			}
			v.Set(reflect.ValueOf(list))
			return nil
		}
		// A struct with the one field "value" lets the TOML parser do it.
		holder := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Value", Type: v.Type(), Tag: `toml:"value"`}}))
		if err := decode("value = "+s, holder.Interface()); err != nil {
			return err
		}
		v.Set(holder.Elem().Field(0))
	default:
		panic("config: a field of kind " + v.Kind().String() + " cannot be set from the environment")
	}
	return nil
}

// fillFolders chooses the folders that were left open.
func fillFolders(c *Config, environ []string) {
	env := func(name string) string {
		for _, kv := range slices.Backward(environ) {
			if v, ok := strings.CutPrefix(kv, name+"="); ok {
				return v
			}
		}
		return ""
	}
	root := os.Geteuid() == 0
	if c.State.Dir == "" {
		switch {
		case filepath.IsAbs(env("XDG_STATE_HOME")):
			c.State.Dir = filepath.Join(env("XDG_STATE_HOME"), "fenrir")
		case root || env("HOME") == "":
			c.State.Dir = "/var/lib/fenrir"
		default:
			c.State.Dir = filepath.Join(env("HOME"), ".local", "state", "fenrir")
		}
	}
	if c.State.RuntimeDir == "" {
		switch {
		case filepath.IsAbs(env("XDG_RUNTIME_DIR")):
			c.State.RuntimeDir = filepath.Join(env("XDG_RUNTIME_DIR"), "fenrir")
		case root:
			c.State.RuntimeDir = "/run/fenrir"
		default:
			c.State.RuntimeDir = filepath.Join(c.State.Dir, "run")
		}
	}
	if c.Sessions.HomesDir == "" {
		c.Sessions.HomesDir = filepath.Join(c.State.Dir, "homes")
	}
}
