package fcm

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
)

const (
	maxDetail = 200 // bytes, by push.Reply
	// throttlePause is what Google asks for where it names no time.
	throttlePause = time.Minute
)

// failure is the error body of Google's APIs (google.rpc.Status), with the two
// kinds of details that FCM sends: google.firebase.fcm.v1.FcmError and
// google.rpc.BadRequest.
type failure struct {
	Error struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details []struct {
			Type       string      `json:"@type"`
			ErrorCode  string      `json:"errorCode"`
			Violations []violation `json:"fieldViolations"`
		} `json:"details"`
	} `json:"error"`
}

type violation struct {
	Field string `json:"field"`
}

func (x *exchange) reply() push.Reply {
	var f failure
	// What is not JSON comes from something on the way: the status is all.
	_ = json.Unmarshal(x.body, &f)
	code, fields := f.details()
	r := push.Reply{Reason: outcome(x.status, code, f.namesToken(code, fields)), Detail: word(code)}
	if r.Detail == "" {
		r.Detail = word(f.Error.Status)
	}
	if r.Detail == "" {
		r.Detail = "HTTP " + strconv.Itoa(x.status)
	}
	if r.Reason == push.BadRequest {
		for _, field := range fields {
			field, _, _ = strings.Cut(field, "[")
			r.Detail = clean(r.Detail+" "+word(field), "")
		}
	}
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(x.header.Get("Retry-After"), time.Now())
	}
	if r.Reason == push.Throttled && r.RetryAfter == 0 {
		r.RetryAfter = throttlePause
	}
	return r
}

// details returns FCM's own error code and the fields complained about.
func (f *failure) details() (code string, fields []string) {
	for _, d := range f.Error.Details {
		if strings.HasSuffix(d.Type, "/google.firebase.fcm.v1.FcmError") {
			code = d.ErrorCode
		}
		for _, v := range d.Violations {
			fields = append(fields, v.Field)
		}
	}
	return code, fields
}

// namesToken tells whether an INVALID_ARGUMENT is about the token: by field, or,
// where no field is named, by FCM's own error together with its text. A payload
// that is too big has that error too, and must not cost a device its binding.
func (f *failure) namesToken(code string, fields []string) bool {
	for _, field := range fields {
		if field == "message.token" {
			return true
		}
	}
	return len(fields) == 0 && code == "INVALID_ARGUMENT" &&
		strings.Contains(strings.ToLower(f.Error.Message), "registration token")
}

func outcome(status int, code string, namesToken bool) push.Reason {
	switch {
	case status == http.StatusNotFound && code == "UNREGISTERED":
		return push.TokenDead
	case status == http.StatusBadRequest && namesToken:
		return push.TokenBad
	case status == http.StatusForbidden && code == "SENDER_ID_MISMATCH":
		return push.TokenBad
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusProxyAuthRequired:
		return push.Credential
	case status == http.StatusTooManyRequests:
		return push.Throttled
	case status >= http.StatusInternalServerError, status == http.StatusRequestTimeout,
		status == http.StatusOK: // 200 without a message name: nobody took it
		return push.Unavailable
	}
	return push.BadRequest
}

// noAnswer explains a try that got no status.
func noAnswer(ctx context.Context, x *exchange, token string) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	if x.err == nil {
		return push.Reply{Reason: push.Unavailable, Detail: "no answer"}
	}
	return push.Reply{Reason: push.Unavailable, Detail: clean(x.err.Error(), token)}
}

// clean makes the text of a foreign error safe to show.
func clean(text, token string) string {
	if token != "" {
		text = strings.ReplaceAll(text, token, "<token>")
	}
	text = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return ' '
		}
		return c
	}, text)
	return text[:min(len(text), maxDetail)]
}

// word is an error code or a field's name, or nothing if s is neither.
func word(s string) string {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '.' {
			return ""
		}
	}
	if len(s) > 64 {
		return ""
	}
	return s
}
