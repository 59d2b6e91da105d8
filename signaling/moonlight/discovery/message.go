package discovery

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Names that the protocol fixes.
const (
	serviceName  = "_nvstream._tcp.local."
	servicesName = "_services._dns-sd._udp.local."
	anyType      = dnsmessage.TypeALL
	unicastBit   = 1 << 15 // of a question's class: answer me alone
	flushBit     = 1 << 15 // of a record's class: forget what you knew
	maxRecords   = 64      // looked at in one message
	maxPacket    = 9000    // bytes
	hostTTL      = 120     // seconds
	sharedTTL    = 4500
	legacyTTL    = 10
	maxLabel     = 63
	room         = 8 // of a label, for a number behind it
)

// zone is what is said about this host.
type zone struct {
	instance, host dnsmessage.Name
	port           uint16
}

// newZone names things. try counts from 1; each is another name.
func newZone(instance, host string, port uint16, try int) zone {
	suffix := ""
	if try > 1 {
		suffix = fmt.Sprint("-", try)
	}
	return zone{
		dnsmessage.MustNewName(label(instance) + suffix + "." + serviceName), // it is short enough
		dnsmessage.MustNewName(label(host) + suffix + ".local."),
		port,
	}
}

// label makes a name of letters, digits and hyphens of what people call a host.
func label(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		case r == '\'' || r == '’':
			return -1
		}
		return '-'
	}, s)
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '-' }), "-")
	s = strings.Trim(s[:min(len(s), maxLabel-room)], "-")
	if s == "" {
		return "Fenrir"
	}
	return s
}

func header(n dnsmessage.Name, ttl uint32, unique bool) dnsmessage.ResourceHeader {
	class := dnsmessage.ClassINET
	if unique {
		class |= flushBit
	}
	return dnsmessage.ResourceHeader{Name: n, Class: class, TTL: ttl}
}

// shared is the record that others have too; unique are those that are ours alone.
func (z *zone) shared() dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(dnsmessage.MustNewName(serviceName), sharedTTL, false), Body: &dnsmessage.PTRResource{PTR: z.instance}}
}

func (z *zone) unique(addrs []netip.Addr) []dnsmessage.Resource {
	out := []dnsmessage.Resource{
		{Header: header(z.instance, hostTTL, true), Body: &dnsmessage.SRVResource{Port: z.port, Target: z.host}},
		{Header: header(z.instance, sharedTTL, true), Body: &dnsmessage.TXTResource{TXT: []string{""}}},
	}
	for _, a := range addrs {
		var body dnsmessage.ResourceBody = &dnsmessage.AAAAResource{AAAA: a.As16()}
		if a.Is4() {
			body = &dnsmessage.AResource{A: a.As4()}
		}
		out = append(out, dnsmessage.Resource{Header: header(z.host, hostTTL, true), Body: body})
	}
	for i := range out {
		out[i].Header.Type = typeOf(out[i].Body)
	}
	return out
}

func (z *zone) all(addrs []netip.Addr) []dnsmessage.Resource {
	ptr := z.shared()
	ptr.Header.Type = dnsmessage.TypePTR
	return append([]dnsmessage.Resource{ptr}, z.unique(addrs)...)
}

func typeOf(b dnsmessage.ResourceBody) dnsmessage.Type {
	switch b.(type) {
	case *dnsmessage.PTRResource:
		return dnsmessage.TypePTR
	case *dnsmessage.SRVResource:
		return dnsmessage.TypeSRV
	case *dnsmessage.TXTResource:
		return dnsmessage.TypeTXT
	case *dnsmessage.AResource:
		return dnsmessage.TypeA
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	}
	return 0
}

// probe asks whether somebody has our names, and says what we would use them for.
func (z *zone) probe(addrs []netip.Addr) dnsmessage.Message {
	m := dnsmessage.Message{}
	for _, n := range []dnsmessage.Name{z.instance, z.host} {
		m.Questions = append(m.Questions, dnsmessage.Question{Name: n, Type: anyType, Class: dnsmessage.ClassINET | unicastBit})
	}
	m.Authorities = z.unique(addrs)
	for i := range m.Authorities {
		m.Authorities[i].Header.Class = dnsmessage.ClassINET
	}
	return m
}

// announcement tells everything unasked; goodbye takes it back.
func (z *zone) announcement(addrs []netip.Addr) dnsmessage.Message {
	return dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}, Answers: z.all(addrs)}
}

func (z *zone) goodbye(addrs []netip.Addr) dnsmessage.Message {
	m := z.announcement(addrs)
	for i := range m.Answers {
		m.Answers[i].Header.TTL = 0
	}
	return m
}

func same(a, b dnsmessage.Name) bool { return strings.EqualFold(a.String(), b.String()) }

// answer is what q is to be answered, and whether there is anything. The records
// that were asked for come first, those that will be asked for next beside them.
func (z *zone) answer(q *message, addrs []netip.Addr) (dnsmessage.Message, bool) {
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}}
	enumerated := false
	asked := func(r dnsmessage.Resource) bool {
		return slices.ContainsFunc(q.questions, func(a dnsmessage.Question) bool {
			return inClass(a.Class) && same(a.Name, r.Header.Name) && (a.Type == r.Header.Type || a.Type == anyType)
		})
	}
	for _, a := range q.questions {
		if inClass(a.Class) && strings.EqualFold(a.Name.String(), servicesName) && (a.Type == dnsmessage.TypePTR || a.Type == anyType) && !enumerated {
			enumerated = true
			r := dnsmessage.Resource{Header: header(a.Name, sharedTTL, false), Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(serviceName)}}
			r.Header.Type = dnsmessage.TypePTR
			m.Answers = append(m.Answers, r)
		}
	}
	ours := false
	for _, r := range z.all(addrs) {
		if asked(r) && !q.knows(r) {
			ours = true
			m.Answers = append(m.Answers, r)
		} else {
			m.Additionals = append(m.Additionals, r)
		}
	}
	if !ours {
		m.Additionals = nil
	}
	return m, len(m.Answers) > 0
}

func inClass(c dnsmessage.Class) bool {
	c &^= unicastBit
	return c == dnsmessage.ClassINET || c == dnsmessage.ClassANY
}

// legacy makes m an answer for a simple resolver, which asks from a port of its own.
func legacy(m dnsmessage.Message, q *message) dnsmessage.Message {
	m.ID = q.id
	m.Questions = q.questions
	for _, of := range [][]dnsmessage.Resource{m.Answers, m.Additionals} {
		for i := range of {
			of[i].Header.Class &^= flushBit
			of[i].Header.TTL = min(of[i].Header.TTL, legacyTTL)
		}
	}
	return m
}

// message is what is read of one from the network.
type message struct {
	id          uint16
	response    bool
	questions   []dnsmessage.Question
	answers     []dnsmessage.Resource
	authorities []dnsmessage.Resource
}

var errMessage = errors.New("no message of use")

// parse reads a message and leaves out records of types that it does not know.
func parse(b []byte) (*message, error) {
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil || h.OpCode != 0 || h.RCode != 0 {
		return nil, errMessage
	}
	m := &message{id: h.ID, response: h.Response}
	for {
		q, err := p.Question()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			break
		}
		if err != nil || len(m.questions) == maxRecords {
			return nil, errMessage
		}
		m.questions = append(m.questions, q)
	}
	if m.answers, err = section(&p, p.AnswerHeader, p.SkipAnswer); err != nil {
		return nil, err
	}
	if m.authorities, err = section(&p, p.AuthorityHeader, p.SkipAuthority); err != nil {
		return nil, err
	}
	return m, nil
}

func section(p *dnsmessage.Parser, next func() (dnsmessage.ResourceHeader, error), skip func() error) ([]dnsmessage.Resource, error) {
	var out []dnsmessage.Resource
	for range maxRecords {
		h, err := next()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return out, nil
		}
		if err != nil {
			return nil, errMessage
		}
		body, err := bodyOf(p, h.Type)
		if err == nil && body == nil {
			err = skip()
		}
		if err != nil {
			return nil, errMessage
		}
		if body != nil {
			out = append(out, dnsmessage.Resource{Header: h, Body: body})
		}
	}
	return nil, errMessage
}

// bodyOf reads a record of a type that matters here; nil is another.
func bodyOf(p *dnsmessage.Parser, t dnsmessage.Type) (dnsmessage.ResourceBody, error) {
	switch t {
	case dnsmessage.TypePTR:
		r, err := p.PTRResource()
		return &r, err
	case dnsmessage.TypeSRV:
		r, err := p.SRVResource()
		return &r, err
	case dnsmessage.TypeTXT:
		r, err := p.TXTResource()
		return &r, err
	case dnsmessage.TypeA:
		r, err := p.AResource()
		return &r, err
	case dnsmessage.TypeAAAA:
		r, err := p.AAAAResource()
		return &r, err
	}
	return nil, nil
}

// knows tells whether the asker has r and will for half of its life.
func (m *message) knows(r dnsmessage.Resource) bool {
	return slices.ContainsFunc(m.answers, func(k dnsmessage.Resource) bool {
		return k.Header.TTL >= r.Header.TTL/2 && k.Header.Type == r.Header.Type && same(k.Header.Name, r.Header.Name) && bytes.Equal(data(k.Body), data(r.Body))
	})
}

// unicast tells whether all questions want to be answered alone.
func (m *message) unicast() bool {
	return !slices.ContainsFunc(m.questions, func(q dnsmessage.Question) bool { return q.Class&unicastBit == 0 })
}

// data is a record's data as it would be on the wire without compression, names in
// lower case.
func data(b dnsmessage.ResourceBody) []byte {
	switch b := b.(type) {
	case *dnsmessage.PTRResource:
		return wire(b.PTR)
	case *dnsmessage.SRVResource:
		out := binary.BigEndian.AppendUint16(nil, b.Priority)
		out = binary.BigEndian.AppendUint16(out, b.Weight)
		out = binary.BigEndian.AppendUint16(out, b.Port)
		return append(out, wire(b.Target)...)
	case *dnsmessage.TXTResource:
		var out []byte
		for _, s := range b.TXT {
			out = append(append(out, byte(len(s))), s...)
		}
		return out
	case *dnsmessage.AResource:
		return b.A[:]
	case *dnsmessage.AAAAResource:
		return b.AAAA[:]
	}
	return nil
}

func wire(n dnsmessage.Name) []byte {
	var out []byte
	for l := range strings.SplitSeq(strings.TrimSuffix(strings.ToLower(n.String()), "."), ".") {
		out = append(append(out, byte(len(l))), l...)
	}
	return append(out, 0)
}

// conflict tells whether somebody else uses one of our names. own are all our
// addresses: what one of our ports says is heard by the others.
func (z *zone) conflict(m *message, own []netip.Addr) bool {
	if !m.response {
		return false
	}
	return slices.ContainsFunc(m.answers, func(r dnsmessage.Resource) bool {
		if r.Header.TTL == 0 {
			return false // somebody's goodbye
		}
		switch b := r.Body.(type) {
		case *dnsmessage.SRVResource:
			return same(r.Header.Name, z.instance) && (b.Port != z.port || !same(b.Target, z.host))
		case *dnsmessage.AResource:
			return same(r.Header.Name, z.host) && !slices.Contains(own, netip.AddrFrom4(b.A))
		case *dnsmessage.AAAAResource:
			return same(r.Header.Name, z.host) && !slices.Contains(own, netip.AddrFrom16(b.AAAA))
		}
		return false
	})
}

// yields tells whether m is a probe for one of our names that has precedence over
// ours (RFC 6762, 8.2).
func (z *zone) yields(m *message, addrs, own []netip.Addr) bool {
	if m.response {
		return false
	}
	for _, n := range []dnsmessage.Name{z.instance, z.host} {
		theirs := proposed(m.authorities, n)
		if len(theirs) == 0 || z.speaks(m, own) {
			continue
		}
		if slices.CompareFunc(proposed(z.unique(addrs), n), theirs, bytes.Compare) < 0 {
			return true
		}
	}
	return false
}

// speaks tells whether m is our own probe, heard by another of our ports.
func (z *zone) speaks(m *message, own []netip.Addr) bool {
	as := &message{response: true, answers: m.authorities}
	return !z.conflict(as, own)
}

// proposed are the records of a name, as they are compared.
func proposed(of []dnsmessage.Resource, n dnsmessage.Name) [][]byte {
	var out [][]byte
	for _, r := range of {
		if same(r.Header.Name, n) {
			key := binary.BigEndian.AppendUint16(nil, uint16(r.Header.Class&^flushBit))
			key = binary.BigEndian.AppendUint16(key, uint16(typeOf(r.Body)))
			out = append(out, append(key, data(r.Body)...))
		}
	}
	slices.SortFunc(out, func(a, b []byte) int { return cmp.Compare(string(a), string(b)) })
	return out
}
