package fcmsim

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v4"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

const (
	grantType = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	scope     = "https://www.googleapis.com/auth/firebase.messaging"
	wideScope = "https://www.googleapis.com/auth/cloud-platform"
)

type account struct {
	project string
	public  *rsa.PublicKey
}

// MakeAccount creates a service account of the project, registers it, and writes its
// JSON file, as Google would issue it, into dir.
func (s *Server) MakeAccount(dir, project string) (file string, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", fmt.Errorf("cannot make key of project %q: %w", project, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("cannot encode key of project %q: %w", project, err)
	}
	email := "push-" + randomHex(4) + "@" + project + ".iam.example.com"
	s.accounts.Store(email, account{project, &private.PublicKey})
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	leak.Secret(key)
	contents, err := json.MarshalIndent(map[string]string{
		"type":           "service_account",
		"project_id":     project,
		"private_key_id": randomHex(20),
		"private_key":    key,
		"client_email":   email,
		"client_id":      "100000000000000000001",
		"token_uri":      s.tokenURI(),
	}, "", "  ")
	if err != nil {
		return "", fmt.Errorf("cannot encode account of project %q: %w", project, err)
	}
	file = filepath.Join(dir, project+".json")
	if err := os.WriteFile(file, contents, 0o600); err != nil {
		return "", fmt.Errorf("cannot write account of project %q: %w", project, err)
	}
	return file, nil
}

func (s *Server) tokenURI() string { return s.URL() + "/token" }

// BehaveOAuth sets how requests for access tokens are answered, like Behave.
func (s *Server) BehaveOAuth(script ...Behaviour) { s.oauth.Set(script) }

// token serves the token endpoint, RFC 7523.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Date", s.options.Clock().UTC().Format(http.TimeFormat))
	b, _ := s.oauth.Next()
	if !s.Wait(r, b.Delay) || b.Fault != None && !s.act(w, r, nil, b) {
		return
	}
	if b.Status != 0 && b.Status != http.StatusOK {
		writeJSON(w, b.Status, map[string]string{"error": b.Code, "error_description": "on demand"})
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	if r.PostFormValue("grant_type") != grantType {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "unsupported_grant_type"})
		return
	}
	project, err := s.assertion(r.PostFormValue("assertion"))
	if err != nil {
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_grant", "error_description": err.Error()})
		return
	}
	leak.Secret(r.PostFormValue("assertion"))
	s.give(w, project)
}

type claims struct {
	jwt.RegisteredClaims
	Scope string `json:"scope"`
}

// assertion verifies the client's signed assertion and returns its project.
func (s *Server) assertion(text string) (project string, err error) {
	var (
		c     claims
		found account
	)
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation())
	_, err = parser.ParseWithClaims(text, &c, func(*jwt.Token) (any, error) {
		v, ok := s.accounts.Load(c.Issuer)
		if !ok {
			return nil, errors.New("unknown account")
		}
		found = v.(account)
		return found.public, nil
	})
	now := s.options.Clock()
	switch {
	case err != nil:
		return "", errors.New("invalid signature or issuer")
	case !c.VerifyIssuedAt(now, true) || !c.VerifyExpiresAt(now, true):
		return "", errors.New("not in a reasonable timeframe")
	case !c.VerifyAudience(s.tokenURI(), true):
		return "", errors.New("invalid audience")
	case c.ExpiresAt.Sub(c.IssuedAt.Time) > time.Hour:
		return "", errors.New("invalid lifetime")
	}
	for sc := range strings.FieldsSeq(c.Scope) {
		if sc == scope || sc == wideScope {
			return found.project, nil
		}
	}
	return "", errors.New("invalid scope")
}
