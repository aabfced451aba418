package upper

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// minKey is the minimum length of a key file's text.
const minKey = 32

// Key encrypts the secrets with which one can register as a user. Safe for
// concurrent use.
type Key struct{ aead cipher.AEAD }

var errKey = fmt.Errorf("must hold at least %d characters, such as `openssl rand -hex 32` prints", minKey)

// NewKey derives a key from the text of a key file.
func NewKey(text secret.Text) (Key, error) {
	s := strings.TrimSpace(text.Reveal())
	if len(s) < minKey {
		return Key{}, errKey
	}
	sum := sha256.Sum256([]byte("sipwake upper\x00" + s))
	block, err := aes.NewCipher(sum[:])
	if err != nil {
		return Key{}, err
	}
	aead, err := cipher.NewGCM(block)
	return Key{aead}, err
}

// seal encrypts text so that only this key opens it, and only for that AOR.
func (k Key) seal(aor string, text secret.Text) []byte {
	nonce := make([]byte, k.aead.NonceSize())
	rand.Read(nonce)
	return k.aead.Seal(nonce, nonce, []byte(text.Reveal()), []byte(aor))
}

var errSealed = errors.New("the stored HA1 was sealed with another key file")

func (k Key) open(aor string, sealed []byte) (secret.Text, error) {
	n := k.aead.NonceSize()
	if len(sealed) < n {
		return secret.Text{}, errSealed
	}
	text, err := k.aead.Open(nil, sealed[:n], sealed[n:], []byte(aor))
	if err != nil {
		return secret.Text{}, errSealed
	}
	return secret.NewText(string(text)), nil
}

// Files is the content of the files in a Config.
type Files struct {
	key     *Key                   // nil: nothing is kept alive
	secrets map[string]secret.Text // HA1s by AOR
}

// Read reads the files named in the configuration. Every error names the field.
func (c *Config) Read() (Files, error) {
	if c.KeyFile == "" {
		return Files{}, nil
	}
	text, err := secret.ReadText(c.KeyFile)
	if err == nil {
		var k Key
		if k, err = NewKey(text); err == nil {
			f := Files{key: &k}
			f.secrets, err = readSecrets(c.SecretsFile)
			return f, err
		}
	}
	return Files{}, fmt.Errorf("key_file: %w", err)
}

// readSecrets reads lines of an AOR and an HA1. Errors never quote a line.
func readSecrets(path string) (map[string]secret.Text, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("secrets_file: %w", err)
	}
	all := make(map[string]secret.Text)
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		if len(fields) != 2 || !strings.Contains(fields[0], "@") || !isHA1.MatchString(fields[1]) {
			return nil, fmt.Errorf("secrets_file: line %d is not user@domain and 32 hexadecimal digits", n)
		}
		all[strings.ToLower(fields[0])] = secret.NewText(fields[1])
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("secrets_file: %w", err)
	}
	return all, nil
}
