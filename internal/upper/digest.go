package upper

import (
	"crypto/md5" //nolint:gosec // what the digest of SIP is made of
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/icholy/digest"
)

// Reasons why a challenge cannot be answered with an HA1.
var (
	errNoChallenge = errors.New("the PBX asks for no MD5 digest")
	errRealm       = errors.New("the PBX has another realm than the app's HA1")
)

// answer returns the Authorization for a REGISTER to uri. stale reports whether the
// PBX called the previous nonce stale.
func answer(headers []string, user, realm, ha1, uri string) (authorization string, stale bool, err error) {
	err = errNoChallenge
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ":")
		if !strings.EqualFold(strings.TrimSpace(name), "WWW-Authenticate") {
			continue
		}
		c, bad := digest.ParseChallenge(strings.TrimSpace(value))
		if bad != nil || c.Algorithm != "" && !strings.EqualFold(c.Algorithm, "MD5") || len(c.QOP) > 0 && !c.SupportsQOP("auth") {
			continue
		}
		if c.Realm != realm {
			err = errRealm
			continue
		}
		return respond(c, user, ha1, uri).String(), c.Stale, nil
	}
	return "", false, err
}

// respond computes the response of RFC 2617 section 3.2.2.
func respond(c *digest.Challenge, user, ha1, uri string) *digest.Credentials {
	out := &digest.Credentials{Username: user, Realm: c.Realm, Nonce: c.Nonce, URI: uri, Algorithm: c.Algorithm, Opaque: c.Opaque}
	ha2 := hash("REGISTER:" + uri)
	if len(c.QOP) == 0 {
		out.Response = hash(ha1 + ":" + c.Nonce + ":" + ha2)
		return out
	}
	out.QOP, out.Nc, out.Cnonce = "auth", 1, strings.ToLower(rand.Text())
	out.Response = hash(fmt.Sprintf("%s:%s:%08x:%s:%s:%s", ha1, c.Nonce, out.Nc, out.Cnonce, out.QOP, ha2))
	return out
}

func hash(s string) string {
	sum := md5.Sum([]byte(s)) //nolint:gosec // see above
	return hex.EncodeToString(sum[:])
}
