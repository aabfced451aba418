package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// The sizes of RFC 8188 and RFC 8291, in bytes. A push service must accept a body of
// 4096 bytes (RFC 8030 section 7.2), but need not accept more.
const (
	saltSize   = 16
	pointSize  = 65
	authSize   = 16
	recordSize = 4096
	headerSize = saltSize + 4 + 1 + pointSize
	tagSize    = 16
	// MaxPayload is the size limit of a payload before encryption, in bytes.
	MaxPayload = 4096 - headerSize - tagSize - 1
)

var (
	errKeys    = errors.New("the subscription's keys are damaged")
	errTooLong = errors.New("the payload is too long to be encrypted")
)

// encrypt builds the body of a push by RFC 8291: one aes128gcm record that only the
// subscribed browser can read.
func encrypt(payload []byte, keys *pnparam.WebPushKeys) ([]byte, error) {
	ephemeral, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return nil, errors.New("cannot make a key for encryption")
	}
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails
	return seal(payload, keys, ephemeral, salt)
}

// seal is encrypt with given random values.
func seal(payload []byte, keys *pnparam.WebPushKeys, ephemeral *ecdh.PrivateKey, salt [saltSize]byte) ([]byte, error) {
	if len(payload) > MaxPayload {
		return nil, errTooLong
	}
	point, err := base64.RawURLEncoding.DecodeString(keys.P256dh.Reveal())
	if err != nil {
		return nil, errKeys
	}
	auth, err := base64.RawURLEncoding.DecodeString(keys.Auth.Reveal())
	if err != nil || len(auth) != authSize {
		return nil, errKeys
	}
	browser, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, errKeys
	}
	secret, err := ephemeral.ECDH(browser)
	if err != nil {
		return nil, errKeys
	}
	mine := ephemeral.PublicKey().Bytes()

	// RFC 8291 section 3.4, then RFC 8188 section 2.2 and 2.3.
	info := slices.Concat([]byte("WebPush: info\x00"), point, mine)
	ikm, err1 := hkdf.Key(sha256.New, secret, auth, string(info), sha256.Size)
	key, err2 := hkdf.Key(sha256.New, ikm, salt[:], "Content-Encoding: aes128gcm\x00", 16)
	nonce, err3 := hkdf.Key(sha256.New, ikm, salt[:], "Content-Encoding: nonce\x00", 12)
	block, err4 := aes.NewCipher(key)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	body := make([]byte, 0, headerSize+len(payload)+1+tagSize)
	body = append(body, salt[:]...)
	body = binary.BigEndian.AppendUint32(body, recordSize)
	body = append(append(body, pointSize), mine...)
	const last = 2 // the delimiter of the last record; no padding
	return gcm.Seal(body, nonce, append(slices.Clone(payload), last), nil), nil
}
