package nvhttp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// reply is an answer as the strictest clients read it.
type reply struct {
	status  int
	message string
	text    map[string]string // by element
	apps    []map[string]string
}

// read parses strictly: one root with a numeric status_code; below it elements
// that occur once and have a text that is not empty, or App elements of such.
func read(b []byte) (reply, error) {
	r := reply{text: map[string]string{}}
	d := xml.NewDecoder(bytes.NewReader(b))
	root, err := next(d)
	if err != nil || root.Name.Local != "root" {
		return r, fmt.Errorf("no root in %q: %w", b, err)
	}
	for _, a := range root.Attr {
		switch a.Name.Local {
		case "status_code":
			if r.status, err = strconv.Atoi(a.Value); err != nil {
				return r, err
			}
		case "status_message":
			r.message = a.Value
		default:
			return r, fmt.Errorf("attribute %s", a.Name.Local)
		}
	}
	if r.status == 0 || (r.status == 200) != (r.message == "") {
		return r, fmt.Errorf("status %d with the message %q", r.status, r.message)
	}
	err = within(d, func(name string) error {
		if name != "App" {
			return leaf(d, name, r.text)
		}
		app := map[string]string{}
		r.apps = append(r.apps, app)
		return within(d, func(name string) error { return leaf(d, name, app) })
	})
	if err != nil {
		return r, fmt.Errorf("%w in %q", err, b)
	}
	if t, err := d.Token(); err == nil {
		if c, ok := t.(xml.CharData); !ok || len(bytes.TrimSpace(c)) > 0 {
			return r, fmt.Errorf("something after the root: %v", t)
		}
	}
	return r, nil
}

func next(d *xml.Decoder) (xml.StartElement, error) {
	for {
		t, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		if e, ok := t.(xml.StartElement); ok {
			return e, nil
		}
	}
}

// within calls f for each element until the present one ends.
func within(d *xml.Decoder, f func(name string) error) error {
	for {
		t, err := d.Token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.EndElement:
			return nil
		case xml.StartElement:
			if len(t.Attr) > 0 {
				return fmt.Errorf("%s has attributes", t.Name.Local)
			}
			if err := f(t.Name.Local); err != nil {
				return err
			}
		case xml.CharData:
			return fmt.Errorf("text %q between elements", t)
		default:
			return fmt.Errorf("%T", t)
		}
	}
}

func leaf(d *xml.Decoder, name string, into map[string]string) error {
	if _, twice := into[name]; twice {
		return fmt.Errorf("%s twice", name)
	}
	t, err := d.Token()
	if errors.Is(err, io.EOF) || err != nil {
		return err
	}
	c, ok := t.(xml.CharData)
	if !ok || len(bytes.TrimSpace(c)) == 0 {
		return fmt.Errorf("%s is empty", name)
	}
	into[name] = string(c)
	t, err = d.Token()
	if _, ok := t.(xml.EndElement); !ok || err != nil {
		return fmt.Errorf("%s holds more than text: %w", name, err)
	}
	return nil
}
