// Package hmssim is a simulated Push Kit of Huawei: the OAuth 2.0 token endpoint and
// messages:send over HTTPS, Huawei's checks of client, access token and message, and any
// answer on demand.
package hmssim

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

const (
	accepted = "80000000"
	// maxMessage is how long a message may be without its token, in bytes.
	maxMessage = 4096
)

// Server is a running simulator. Safe for concurrent use.
type Server struct {
	*sim.Service[Push, Behaviour]
	clients sync.Map // client ID → secret
	access  sync.Map // access token → client ID
	scripts sync.Map // push token → *sim.Script[Behaviour]
	grants  atomic.Int64
}

// Behaviour is how the server answers a push that is without fault. The zero Behaviour
// delivers it.
type Behaviour struct {
	Status int    // 0: 200
	Code   string // of the JSON body; empty: there is Body, from something on the way
	Body   string
	Fault  sim.Fault
}

// Push is one push. Its Token does not print itself.
type Push struct {
	At      time.Time
	Token   secret.Token
	Code    string // of the answer
	Message Message
}

// Message is what is looked at of a message. A field of another type is refused.
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

// Start listens and serves until Close.
func Start() (*Server, error) {
	service, err := sim.NewService[Push, Behaviour](sim.Config{Service: "HMS"}, 0, nil)
	if err != nil {
		return nil, err
	}
	s := &Server{Service: service}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /oauth2/v3/token", s.token)
	mux.HandleFunc("POST /{version}/{id}/messages:send", s.send)
	s.Serve(mux)
	return s, nil
}

// TokenURL is where clients ask for access tokens.
func (s *Server) TokenURL() string { return s.URL() + "/oauth2/v3/token" }

// MakeClient makes the credentials of an app, or of a project, and writes the secret into
// dir.
func (s *Server) MakeClient(dir, id string) (secretFile string, err error) {
	text := randomHex(32)
	leak.Secret(text)
	s.clients.Store(id, text)
	secretFile = filepath.Join(dir, id+".secret")
	if err := os.WriteFile(secretFile, []byte(text+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("cannot write secret: %w", err)
	}
	return secretFile, nil
}

// Behave sets how pushes to a token are answered: each takes the next behaviour, and the
// last one stays. None means delivery.
func (s *Server) Behave(token string, script ...Behaviour) { s.script(token).Set(script) }

func (s *Server) script(token string) *sim.Script[Behaviour] {
	v, _ := s.scripts.LoadOrStore(token, new(sim.Script[Behaviour]))
	return v.(*sim.Script[Behaviour])
}

// EndAccess ends every access token.
func (s *Server) EndAccess() { s.access.Clear() }

// Grants returns how many access tokens were given.
func (s *Server) Grants() int { return int(s.grants.Load()) }

// token is the token endpoint, RFC 6749 section 4.4. Huawei's errors are numbers.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	id := r.PostFormValue("client_id")
	if want, ok := s.clients.Load(id); !ok || r.PostFormValue("grant_type") != "client_credentials" || r.PostFormValue("client_secret") != want {
		writeJSON(w, http.StatusBadRequest, map[string]any{"error": 1101, "sub_error": 20044, "error_description": "client secret error"})
		return
	}
	text := "CwEAAAAA" + randomHex(24) + "/+="
	leak.Secret(text)
	s.access.Store(text, id)
	s.grants.Add(1)
	writeJSON(w, http.StatusOK, map[string]any{"access_token": text, "expires_in": 3600, "token_type": "Bearer"})
}

// send is messages:send.
func (s *Server) send(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10)) // what breaks off is not JSON
	p, b := s.judge(r, body)
	if s.Fail(r, b.Fault) {
		s.Tell(p)
		return
	}
	if b == (Behaviour{}) {
		b.Code = accepted
	}
	p.Code = b.Code
	s.Record(p, b.Code == accepted)
	status := max(b.Status, http.StatusOK)
	if b.Code == "" {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, b.Body) // the client may be gone
		return
	}
	writeJSON(w, status, map[string]string{"code": b.Code, "msg": b.Body, "requestId": "16" + randomHex(12)})
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
	access, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	id, ok := s.access.Load(access)
	switch {
	case !ok:
		return p, Behaviour{Status: http.StatusUnauthorized, Code: "80200003"}
	case r.PathValue("version") == "v1" && r.PathValue("id") != id:
		return p, Behaviour{Status: http.StatusUnauthorized, Code: "80200001"}
	case len(body)-len(token) > maxMessage:
		return p, Behaviour{Status: http.StatusBadRequest, Code: "80300008"}
	}
	return p, s.Behaviour(s.script(token))
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
