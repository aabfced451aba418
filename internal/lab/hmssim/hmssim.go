// Package hmssim is a simulated Push Kit of Huawei: the OAuth 2.0 token endpoint and
// messages:send over HTTPS with a certificate authority of its own, Huawei's checks of
// client, access token and message, and any answer on demand.
package hmssim

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/labca"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// maxMessage is how long a message may be without its token, in bytes.
const maxMessage = 4096

// Server is a running simulator. Safe for concurrent use.
type Server struct {
	http     *httptest.Server
	ca       *labca.CA
	recorder sim.Recorder[Push]
	grants   atomic.Int64

	mu      sync.Mutex
	secrets map[string]string      // by client ID
	access  map[string]string      // access token to client ID
	answers map[string][]Behaviour // by token, the next first
	tokens  []Behaviour            // of the token endpoint
}

// Behaviour is an answer in the place of the usual one.
type Behaviour struct {
	Status int    // 0: 200
	Code   string // of the JSON body; empty: there is Body
	Body   string // in the place of Huawei's JSON, from something on the way
}

// Push is one push. Its Token prints as a hash.
type Push struct {
	At      time.Time
	Token   secret.Token
	Code    string // of the answer
	Message Message
}

// Message is what is looked at of a message. Data and the fields of Android are text, or
// the request is refused.
type Message struct {
	Data         string            `json:"data"`
	Notification map[string]string `json:"notification"`
	Android      struct {
		TTL      string `json:"ttl"`
		Urgency  string `json:"urgency"`
		Category string `json:"category"`
	} `json:"android"`
	Token []string `json:"token"`
}

// Start serves until Close.
func Start() (*Server, error) {
	ca, err := labca.New("sipwake lab HMS")
	if err != nil {
		return nil, err
	}
	cert, err := ca.Server("127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	s := &Server{ca: ca, recorder: sim.Recorder[Push]{Most: 1000}, secrets: make(map[string]string),
		access: make(map[string]string), answers: make(map[string][]Behaviour)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/v3/token", s.token)
	mux.HandleFunc("POST /{version}/{id}/messages:send", s.send)
	s.http = httptest.NewUnstartedServer(mux)
	s.http.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}}
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0) // a client that goes away is nothing to report
	s.http.StartTLS()
	return s, nil
}

// Close ends all connections and waits for the server to end.
func (s *Server) Close() { s.http.Close() }

// URL is the endpoint for clients, "https://127.0.0.1:port".
func (s *Server) URL() string { return s.http.URL }

// TokenURL is where clients ask for access tokens.
func (s *Server) TokenURL() string { return s.http.URL + "/oauth2/v3/token" }

// MakeClient makes the credentials of an app, or of a project, and writes the secret and
// the certificate to trust into dir.
func (s *Server) MakeClient(dir, id string) (secretFile, caFile string, err error) {
	text := randomHex(32)
	leak.Secret(text)
	s.mu.Lock()
	s.secrets[id] = text
	s.mu.Unlock()
	secretFile, caFile = filepath.Join(dir, id+".secret"), filepath.Join(dir, "hms-ca.pem")
	if err := os.WriteFile(secretFile, []byte(text+"\n"), 0o600); err != nil {
		return "", "", fmt.Errorf("cannot write secret: %w", err)
	}
	if err := os.WriteFile(caFile, s.ca.PEM(), 0o600); err != nil {
		return "", "", fmt.Errorf("cannot write CA: %w", err)
	}
	return secretFile, caFile, nil
}

// Behave sets how the next pushes to a token are answered, one after the other.
func (s *Server) Behave(token string, script ...Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[token] = script
}

// BehaveOAuth sets how the next requests for access tokens are answered.
func (s *Server) BehaveOAuth(script ...Behaviour) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = script
}

// EndAccess ends every access token.
func (s *Server) EndAccess() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.access)
}

// Pushes returns the last pushes, the oldest first.
func (s *Server) Pushes() []Push { return s.recorder.Last() }

// Grants tells how many access tokens were given.
func (s *Server) Grants() int { return int(s.grants.Load()) }

// token is the token endpoint, RFC 6749 section 4.4. Huawei's errors are numbers.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	id := r.PostFormValue("client_id")
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.tokens) > 0 {
		b := s.tokens[0]
		s.tokens = s.tokens[1:]
		b.write(w)
		return
	}
	if want, ok := s.secrets[id]; !ok || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_secret") != want {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": 1101, "sub_error": 20044, "error_description": "client secret error"})
		return
	}
	text := "CwEAAAAA" + randomHex(24) + "/+="
	leak.Secret(text)
	s.access[text] = id
	s.grants.Add(1)
	writeJSON(w, http.StatusOK, map[string]any{"access_token": text, "expires_in": 3600, "token_type": "Bearer"})
}

// send is messages:send.
func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what breaks off is not JSON
	p, b := s.judge(r, body)
	p.Code = b.Code
	s.recorder.Add(p, b.Code == "80000000")
	b.write(w)
}

// judge reads a request and decides how to answer it.
func (s *Server) judge(r *http.Request, body []byte) (p Push, b Behaviour) {
	p.At = time.Now()
	var q struct{ Message Message }
	if json.Unmarshal(body, &q) != nil {
		return p, Behaviour{Status: http.StatusBadRequest, Code: "80100003"}
	}
	p.Message = q.Message
	if len(q.Message.Token) != 1 {
		return p, Behaviour{Status: http.StatusBadRequest, Code: "80300010"}
	}
	token := q.Message.Token[0]
	p.Token = secret.NewToken(token)
	leak.Tokens(token)
	s.mu.Lock()
	defer s.mu.Unlock()
	access, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	id, ok := s.access[access]
	switch script := s.answers[token]; {
	case !ok:
		return p, Behaviour{Status: http.StatusUnauthorized, Code: "80200003"}
	case r.PathValue("version") == "v1" && r.PathValue("id") != id:
		return p, Behaviour{Status: http.StatusUnauthorized, Code: "80200001"}
	case len(body)-len(token) > maxMessage:
		return p, Behaviour{Status: http.StatusBadRequest, Code: "80300008"}
	case len(script) > 0:
		s.answers[token] = script[1:]
		return p, script[0]
	}
	return p, Behaviour{Code: "80000000"}
}

func (b Behaviour) write(w http.ResponseWriter) {
	status := b.Status
	if status == 0 {
		status = http.StatusOK
	}
	if b.Code == "" {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, b.Body) // the client may be gone
		return
	}
	writeJSON(w, status, map[string]string{"code": b.Code, "msg": b.Body, "requestId": "16" + randomHex(12)})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
