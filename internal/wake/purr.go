package wake

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
)

// purrs makes and reads PURRs (RFC 8599 section 6.2.1). A client puts its PURR into
// the Contact of its calls, so that requests within those dialogs find its binding.
// A PURR is the encrypted name of the binding. Without the key nobody can make one,
// read a user, device or token in it, or link two PURRs of a user. PURRs are not
// stored, and every instance with the same key can read them. Safe for concurrent
// use.
type purrs struct {
	aead cipher.AEAD
	mac  []byte
}

const (
	minPURRKey = 32
	// purrWeek is how long a binding keeps its PURR, purrWeeks the maximum age: no
	// live dialog is older.
	purrWeek  = 7 * 24 * time.Hour
	purrWeeks = 26
	purrHash  = 8            // bytes of a device's hash
	purrHead  = 2 + purrHash // week, device; then the AOR, zero-padded
	purrBlock = 32           // so that the length reveals little
	maxPURR   = 2 * maxAOR   // characters
)

var errPURRKey = fmt.Errorf("must hold at least %d characters, such as `openssl rand -hex 32` prints", minPURRKey)

// Read reads the file named in the configuration. Every error names the field.
func (c *Config) Read() error {
	if c.PURRKeyFile == "" {
		return nil
	}
	text, err := secret.ReadText(c.PURRKeyFile)
	if err == nil {
		c.purrs, err = newPURRs(text)
	}
	if err != nil {
		return fmt.Errorf("purr_key_file: %w", err)
	}
	return nil
}

func newPURRs(text secret.Text) (*purrs, error) {
	s := strings.TrimSpace(text.Reveal())
	if len(s) < minPURRKey {
		return nil, errPURRKey
	}
	key, mac := sha256.Sum256([]byte("sipwake purr\x00"+s)), sha256.Sum256([]byte("sipwake purr nonce\x00"+s))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &purrs{aead, mac[:]}, err
}

// of returns the PURR of a binding, or "" without a key. It is the same for a week.
func (p *purrs) of(aor, device string, now time.Time) string {
	if p == nil {
		return ""
	}
	text := make([]byte, purrHead, (purrHead+len(aor)+purrBlock)/purrBlock*purrBlock)
	binary.BigEndian.PutUint16(text, week(now))
	copy(text[2:], p.hash(aor, device))
	text = append(text, aor...)
	text = text[:cap(text)]
	// The same text has the same nonce, and no other text has it.
	h := hmac.New(sha256.New, p.mac)
	h.Write(text)
	nonce := h.Sum(nil)[:p.aead.NonceSize()]
	return base64.RawURLEncoding.EncodeToString(p.aead.Seal(nonce, nonce, text, nil))
}

func week(t time.Time) uint16 { return uint16(t.Unix() / int64(purrWeek/time.Second)) }

func (p *purrs) hash(aor, device string) []byte {
	h := hmac.New(sha256.New, p.mac)
	h.Write([]byte("device\x00" + aor + "\x00" + device))
	return h.Sum(nil)[:purrHash]
}

// open returns the AOR in a PURR and the hash of its device.
func (p *purrs) open(purr string, now time.Time) (aor string, device []byte, ok bool) {
	if p == nil || len(purr) > maxPURR {
		return "", nil, false
	}
	sealed, err := base64.RawURLEncoding.DecodeString(purr)
	n := p.aead.NonceSize()
	if err != nil || len(sealed) < n {
		return "", nil, false
	}
	text, err := p.aead.Open(nil, sealed[:n], sealed[n:], nil)
	if err != nil || len(text) < purrHead {
		return "", nil, false
	}
	// The clock of the instance that made it may be ahead.
	if age := int16(week(now) - binary.BigEndian.Uint16(text)); age < -1 || age > purrWeeks {
		return "", nil, false
	}
	return strings.TrimRight(string(text[purrHead:]), "\x00"), text[2:purrHead], true
}

// byPURR returns the user and the device that a PURR names; device is "" if there is
// no such device.
func (s *Service) byPURR(ctx context.Context, purr string) (aor, device string, err error) {
	p := s.settings.Load().purrs
	aor, hash, ok := p.open(purr, time.Now())
	if !ok {
		return "", "", nil
	}
	list, err := s.store.Bindings(ctx, Query{AOR: aor})
	for i := range list {
		if hmac.Equal(p.hash(aor, list[i].Device), hash) {
			device = list[i].Device
		}
	}
	return aor, device, err
}
