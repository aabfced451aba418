package acrobits

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// MaxBody limits the body of a report, in bytes.
const MaxBody = 16 << 10

// Reports reads the apps' reports and authenticates their users. It is immutable.
type Reports struct {
	secret secret.Text
	domain string
	appIDs []string
}

// ErrForbidden refuses a report whose key is not that of its user.
var ErrForbidden = errors.New("the key is not that of the user")

// Key returns the key that a user's app must send, to be put into the account's
// settings. So nobody can report for a user with another user's key. aor is
// user@domain, in the spelling of wake.CleanAOR.
func (r *Reports) Key(aor string) secret.Text {
	mac := hmac.New(sha256.New, []byte(r.secret.Reveal()))
	mac.Write([]byte("acrobits\x00" + aor))
	return secret.NewText(hex.EncodeToString(mac.Sum(nil)[:16]))
}

// AOR adds the domain to a user given without one.
func (r *Reports) AOR(user string) string {
	if r.domain != "" && !strings.ContainsAny(user, "@:") {
		return user + "@" + r.domain
	}
	return user
}

// Read reads a report: the parameters of the query, and of a form or a JSON object in
// the body, named like the app's variables. It returns user as sent, and does not
// check the key.
func (r *Reports) Read(req *http.Request) (user, key string, report Report, err error) {
	args, err := arguments(req)
	if err != nil {
		return "", "", Report{}, err
	}
	first := func(names ...string) string {
		for _, name := range names {
			if v := args[strings.ToLower(name)]; v != "" {
				return v
			}
		}
		return ""
	}
	report = Report{
		CallApp: first("pushappid_incoming_call", "appid_calls", "pushappid", "appid"), OtherApp: first("pushappid_other", "appid_msgs", "pushappid", "appid"),
		CallToken:  secret.NewToken(first("pushTokenIncomingCall", "token_calls", "pushToken", "token")),
		OtherToken: secret.NewToken(first("pushTokenOther", "token_msgs", "pushToken", "token")),
		Selector:   first("selector"), Device: first("installid", "device"),
	}
	return r.AOR(first("user", "username")), first("key"), report, nil
}

// Judge returns ErrForbidden if key is not that of the user, or an error that says
// what is wrong with the apps that the report names.
func (r *Reports) Judge(aor, key string, report *Report) error {
	if key == "" || !r.Key(aor).Equal(key) {
		return ErrForbidden
	}
	for _, id := range []string{report.CallApp, report.OtherApp} {
		if id != "" && len(r.appIDs) > 0 && !slices.Contains(r.appIDs, id) {
			return errors.New("the application ID is none of app_ids")
		}
	}
	return nil
}

// arguments returns the parameters by lower-case name. No error quotes them.
func arguments(req *http.Request) (map[string]string, error) {
	args := make(map[string]string)
	for name, values := range req.URL.Query() {
		args[strings.ToLower(name)] = values[0]
	}
	if req.Method != http.MethodPost {
		return args, nil
	}
	kind, _, _ := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if kind != "application/json" {
		if err := req.ParseForm(); err != nil {
			return nil, errors.New("the body is not a form")
		}
		for name, values := range req.PostForm {
			args[strings.ToLower(name)] = values[0]
		}
		return args, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, errors.New("the body cannot be read")
	}
	var fields map[string]any
	if json.Unmarshal(body, &fields) != nil {
		return nil, errors.New("the body is not a JSON object")
	}
	for name, value := range fields {
		if text, ok := value.(string); ok {
			args[strings.ToLower(name)] = strings.TrimSpace(text)
		} else if value != nil {
			return nil, fmt.Errorf("a value in the body is not a text")
		}
	}
	return args, nil
}
