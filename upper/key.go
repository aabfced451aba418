package upper

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/sipwake/sipwake/secret"
)

// minKey is how short the text of a key file may be.
const minKey = 32

// Key seals what lets somebody register as a user. Safe for concurrent use.
type Key struct{ aead cipher.AEAD }

var errKey = fmt.Errorf("must hold at least %d characters, such as `openssl rand -hex 32` prints", minKey)

// NewKey makes a key of the text of a key file.
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

// seal returns text so that only the key opens it, and only for that AOR.
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
