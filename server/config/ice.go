package config

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"time"
)

// ICEServer is one STUN or TURN server that players and server may use. A TURN
// server has either a username with a credential, or a shared secret from which
// credentials that end by themselves are made (draft-uberti-behave-turn-rest,
// coturn's use-auth-secret).
type ICEServer struct {
	URLs             []string `toml:"urls"` // "stun:host:port", "turn:host:port?transport=udp", "turns:host:port"
	Username         string   `toml:"username"`
	Credential       Secret   `toml:"credential"`
	CredentialFile   string   `toml:"credential_file"` // read by Load into Credential
	SharedSecret     Secret   `toml:"shared_secret"`
	SharedSecretFile string   `toml:"shared_secret_file"` // read by Load into SharedSecret
	Lifetime         Duration `toml:"lifetime"`           // of credentials made from the shared secret; 0: 12h
}

// Credentials are the username and credential for one person at one moment:
// the fixed ones, or ones made from the shared secret that are good for
// Lifetime. Both are empty for a STUN server.
func (s ICEServer) Credentials(person string, now time.Time) (username, credential string) {
	if s.SharedSecret == "" {
		return s.Username, s.Credential.Reveal()
	}
	life := s.Lifetime.Std()
	if life == 0 {
		life = 12 * time.Hour
	}
	username = fmt.Sprintf("%d:%s", now.Add(life).Unix(), person)
	// SHA-1 is what the scheme names; the strength rests on the HMAC's key.
	mac := hmac.New(sha1.New, []byte(s.SharedSecret.Reveal()))
	mac.Write([]byte(username))
	return username, base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// readSecrets replaces the …File fields' contents into their secrets.
func (s *ICEServer) readSecrets() error {
	for _, p := range []struct {
		key, file string
		to        *Secret
	}{{"credential", s.CredentialFile, &s.Credential}, {"shared_secret", s.SharedSecretFile, &s.SharedSecret}} {
		if p.file == "" {
			continue
		}
		if *p.to != "" {
			return fmt.Errorf("%s and %s_file are both set: keep one", p.key, p.key)
		}
		b, err := os.ReadFile(p.file)
		if err != nil {
			return fmt.Errorf("read %s_file: %w", p.key, err)
		}
		if len(b) > 4096 {
			return fmt.Errorf("%s_file %s is longer than 4096 bytes", p.key, p.file)
		}
		*p.to = Secret(strings.TrimSpace(string(b)))
	}
	return nil
}

func (s ICEServer) validate(e *problems, key string) {
	if len(s.URLs) == 0 {
		e.addf("%s.urls: name at least one", key)
	}
	turn := false
	for _, u := range s.URLs {
		scheme, rest, ok := strings.Cut(u, ":")
		if !ok || rest == "" || strings.HasPrefix(rest, "//") {
			e.addf("%s.urls: %q is no ICE URL (write \"stun:host:3478\" or \"turn:host:3478?transport=udp\")", key, u)
			continue
		}
		switch scheme {
		case "stun", "stuns":
		case "turn", "turns":
			turn = true
		default:
			e.addf("%s.urls: %q: the scheme is one of stun, stuns, turn, turns", key, u)
		}
	}
	if turn && s.SharedSecret == "" && (s.Username == "" || s.Credential == "") {
		e.addf("%s: a TURN server needs username and credential, or shared_secret", key)
	}
	if s.SharedSecret != "" && (s.Username != "" || s.Credential != "") {
		e.addf("%s: shared_secret makes username and credential: leave those out", key)
	}
	if s.Lifetime != 0 {
		e.duration(key+".lifetime", s.Lifetime, 10*time.Minute, 7*24*time.Hour)
	}
}
