package catalog

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// entry is the group "Desktop Entry" of a .desktop file: values as they stand,
// by key. Localised keys keep their brackets, "Name[de]".
// https://specifications.freedesktop.org/desktop-entry-spec/1.5/
type entry map[string]string

// parseEntry reads a .desktop file. It refuses what is no UTF-8 or has no such
// group; lines that are neither group, comment nor key are an error, as the
// specification has it.
func parseEntry(text string) (entry, error) {
	var e entry
	err := parseGroups(text, func(group string) entry {
		if group != "Desktop Entry" {
			return nil
		}
		if e == nil {
			e = entry{}
		}
		return e
	})
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, errors.New("has no group \"Desktop Entry\"")
	}
	return e, nil
}

// parseGroups reads a file of groups. into gives the place for a group's keys,
// or nil for a group that nobody asked for, which may hold anything.
func parseGroups(text string, into func(group string) entry) error {
	if !utf8.ValidString(text) {
		return errors.New("is not UTF-8")
	}
	var e entry
	for n, line := range splitLines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			if !strings.HasSuffix(line, "]") {
				return fmt.Errorf("line %d: group header without end", n+1)
			}
			e = into(line[1 : len(line)-1])
		case e == nil:
		default:
			key, value, ok := strings.Cut(line, "=")
			key = strings.TrimSpace(key)
			if !ok || !validKey(key) {
				return fmt.Errorf("line %d: neither a key nor a comment", n+1)
			}
			if _, twice := e[key]; !twice { // the first one counts
				e[key] = strings.TrimSpace(value)
			}
		}
	}
	return nil
}

func splitLines(text string) []string {
	return strings.Split(strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n"), "\n")
}

// validKey allows A-Za-z0-9- and a locale in brackets.
func validKey(key string) bool {
	name, locale, bracketed := strings.Cut(key, "[")
	if name == "" || bracketed && !strings.HasSuffix(locale, "]") {
		return false
	}
	for _, c := range []byte(name) {
		if !(c == '-' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z') {
			return false
		}
	}
	return true
}

// text is the value of type string at key.
func (e entry) text(key string) string { return unescape(e[key]) }

// local is the value of type localestring at key for a locale.
func (e entry) local(key string, locales []string) string {
	for _, l := range locales {
		if v, ok := e[key+"["+l+"]"]; ok {
			return unescape(v)
		}
	}
	return e.text(key)
}

func (e entry) truth(key string) bool { return e[key] == "true" || e[key] == "1" }

// list is the value of type strings at key: separated by ";", which "\;" escapes.
func (e entry) list(key string) []string {
	list := []string{}
	var item strings.Builder
	flush := func() {
		if item.Len() > 0 {
			list = append(list, unescape(item.String()))
		}
		item.Reset()
	}
	v := e[key]
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '\\' && i+1 < len(v) && v[i+1] == ';':
			item.WriteByte(';')
			i++
		case v[i] == '\\' && i+1 < len(v):
			item.WriteString(v[i : i+2])
			i++
		case v[i] == ';':
			flush()
		default:
			item.WriteByte(v[i])
		}
	}
	flush()
	return list
}

// unescape resolves \s \n \t \r \\; other backslashes stay.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch s[i] {
		case 's':
			b.WriteByte(' ')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case 'r':
			b.WriteByte('\r')
		case '\\':
			b.WriteByte('\\')
		default:
			b.WriteByte('\\')
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// localeKeys lists the bracket contents to look for, best first, for a locale
// like "sr_RS.UTF-8@latin".
func localeKeys(locale string) []string {
	base, modifier, hasMod := strings.Cut(locale, "@")
	base, _, _ = strings.Cut(base, ".")
	lang, country, hasCountry := strings.Cut(base, "_")
	if lang == "" || lang == "C" || lang == "POSIX" {
		return nil
	}
	var keys []string
	if hasCountry && hasMod {
		keys = append(keys, lang+"_"+country+"@"+modifier)
	}
	if hasCountry {
		keys = append(keys, lang+"_"+country)
	}
	if hasMod {
		keys = append(keys, lang+"@"+modifier)
	}
	return append(keys, lang)
}

// maxArgs bounds a command line.
const maxArgs = 256

// splitExec takes an Exec value, already unescaped, apart into arguments. Double
// quotes are as the specification says; single quotes and backslashes outside
// quotes, which it reserves and real files use, mean what they do to a shell.
func splitExec(s string) ([]string, error) {
	var args []string
	var arg strings.Builder
	open := false // an argument has begun, perhaps an empty one
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\n':
			if open {
				args = append(args, arg.String())
				arg.Reset()
				open = false
			}
		case '"':
			open = true
			i++
			for ; i < len(s) && s[i] != '"'; i++ {
				if s[i] == '\\' && i+1 < len(s) && strings.IndexByte("\"`$\\", s[i+1]) >= 0 {
					i++
				}
				arg.WriteByte(s[i])
			}
			if i >= len(s) {
				return nil, errors.New("a quoted argument does not end")
			}
		case '\'':
			open = true
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quoted argument does not end")
			}
			arg.WriteString(s[i+1 : i+1+end])
			i += end + 1
		case '\\':
			open = true
			if i+1 < len(s) {
				i++
			}
			arg.WriteByte(s[i])
		case 0:
			return nil, errors.New("contains a NUL")
		default:
			open = true
			arg.WriteByte(c)
		}
		if len(args) > maxArgs {
			return nil, fmt.Errorf("has more than %d arguments", maxArgs)
		}
	}
	if open {
		args = append(args, arg.String())
	}
	if len(args) == 0 || args[0] == "" {
		return nil, errors.New("is empty")
	}
	return args, nil
}

// expand resolves field codes for a start without files: those for files and
// the deprecated ones vanish.
func expand(args []string, icon, title, path string) ([]string, error) {
	var out []string
	for i, arg := range args {
		switch arg {
		case "%f", "%F", "%u", "%U", "%d", "%D", "%n", "%N", "%v", "%m":
			continue
		case "%i":
			if icon != "" {
				out = append(out, "--icon", icon)
			}
			continue
		}
		var b strings.Builder
		for j := 0; j < len(arg); j++ {
			if arg[j] != '%' {
				b.WriteByte(arg[j])
				continue
			}
			if j++; j == len(arg) {
				return nil, errors.New("ends in a lone %")
			}
			switch arg[j] {
			case '%':
				b.WriteByte('%')
			case 'c':
				b.WriteString(title)
			case 'k':
				b.WriteString(path)
			case 'f', 'F', 'u', 'U', 'd', 'D', 'n', 'N', 'v', 'm', 'i':
			default:
				return nil, fmt.Errorf("has the unknown field code %%%c", arg[j])
			}
		}
		if i == 0 && b.Len() == 0 {
			return nil, errors.New("names no program")
		}
		out = append(out, b.String())
	}
	if len(out) == 0 {
		return nil, errors.New("names no program")
	}
	return out, nil
}
