package fcmsim

import (
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/sipwake/sipwake/internal/lab/sim"
	"github.com/sipwake/sipwake/internal/secret"
)

// Behaviour is how the server answers a valid request. The zero Behaviour delivers the
// push.
type Behaviour struct {
	// Status and Code refuse the push. Code is FCM's own error code, or a
	// google.rpc.Code if FCM has none.
	Status int
	Code   string
	// Message is the error's text.
	Message string
	// Field is the wrong field, such as "message.android.ttl".
	Field string
	// APNs is Apple's own reason, in a separate detail, for an iPhone's token.
	APNs string
	// RetryAfter is the header's value.
	RetryAfter string
	// Body replaces Google's JSON, to simulate the answer of a middlebox.
	Body string
	// Delay is added to the server's latency.
	Delay time.Duration
	Fault Fault
}

// Fault is a connection failure in place of an answer.
type Fault = sim.Fault

// The faults that the server supports.
const (
	None    = sim.None
	Silence = sim.Silence
	Reset   = sim.Reset
	Drop    = sim.Drop
)

// BadToken returns FCM's answer to a malformed token.
func BadToken() Behaviour {
	return Behaviour{
		Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT",
		Message: "The registration token is not a valid FCM registration token",
	}
}

// BadField returns FCM's answer to a message with a wrong field.
func BadField(field string) Behaviour {
	return Behaviour{
		Status: http.StatusBadRequest, Code: "INVALID_ARGUMENT", Message: "Invalid value at '" + field + "'", Field: field,
	}
}

// Unregistered returns FCM's answer to a token that has died.
func Unregistered() Behaviour {
	return Behaviour{Status: http.StatusNotFound, Code: "UNREGISTERED", Message: "Requested entity was not found."}
}

// Push is one push that was accepted or refused. Its Token does not print itself.
type Push struct {
	At       time.Time
	Token    secret.Token
	Status   int
	Code     string
	Protocol string
	Message  *Message // nil if it could not be read
	Body     []byte   // of the request
}

// device is the state of a token.
type device struct {
	onDeliver atomic.Pointer[func(*Message)]

	script sim.Script[Behaviour]
}

// Behave sets how pushes to the token are answered: each push uses the next behaviour,
// and the last one is used again and again. Without any, pushes are delivered.
func (s *Server) Behave(token string, script ...Behaviour) {
	s.AddToken(token)
	s.Device(token).script.Set(script)
}

// OnDeliver sets the function that is called with each push that is delivered to the
// token, after the answer and in the push's own goroutine. nil removes it.
func (s *Server) OnDeliver(token string, f func(*Message)) {
	s.AddToken(token)
	if f == nil {
		s.Device(token).onDeliver.Store(nil)
		return
	}
	s.Device(token).onDeliver.Store(&f)
}

// act executes b and reports whether to deliver the push.
func (s *Server) act(w http.ResponseWriter, r *http.Request, p *Push, b Behaviour) bool {
	if s.Fail(r, b.Fault) {
		return false
	}
	if b.Status == 0 || b.Status == http.StatusOK && b.Body == "" {
		return true
	}
	s.refuse(w, p, b)
	return false
}

// statusName returns the google.rpc.Code of an HTTP status.
func statusName(status int) string {
	switch status {
	case http.StatusBadRequest:
		return "INVALID_ARGUMENT"
	case http.StatusUnauthorized:
		return "UNAUTHENTICATED"
	case http.StatusForbidden:
		return "PERMISSION_DENIED"
	case http.StatusNotFound:
		return "NOT_FOUND"
	case http.StatusTooManyRequests:
		return "RESOURCE_EXHAUSTED"
	case http.StatusServiceUnavailable:
		return "UNAVAILABLE"
	}
	return "INTERNAL"
}

func (s *Server) refuse(w http.ResponseWriter, p *Push, b Behaviour) {
	p.Status, p.Code = b.Status, b.Code
	s.Record(*p, false)
	if b.RetryAfter != "" {
		w.Header().Set("Retry-After", b.RetryAfter)
	}
	if b.Body != "" {
		w.Header().Set("Content-Length", strconv.Itoa(len(b.Body)))
		w.WriteHeader(b.Status)
		_, _ = w.Write([]byte(b.Body)) // the client may have gone
		return
	}
	var details []map[string]any
	switch {
	case b.Field != "":
		details = append(details, map[string]any{
			"@type":           "type.googleapis.com/google.rpc.BadRequest",
			"fieldViolations": []map[string]string{{"field": b.Field, "description": b.Message}},
		})
	case b.Code != "" && b.Code != statusName(b.Status) || b.Code == "INVALID_ARGUMENT":
		details = append(details, map[string]any{
			"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": b.Code,
		})
	}
	if b.APNs != "" {
		details = append(details, map[string]any{
			"@type": "type.googleapis.com/google.firebase.fcm.v1.ApnsError", "statusCode": http.StatusForbidden, "reason": b.APNs,
		})
	}
	writeJSON(w, b.Status, map[string]any{"error": map[string]any{
		"code": b.Status, "message": b.Message, "status": statusName(b.Status), "details": details,
	}})
}
