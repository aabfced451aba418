package fcm

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/push"
)

// throttlePause is the pause that Google asks for when it gives no time.
const throttlePause = time.Minute

// failure is the error body of Google's APIs (google.rpc.Status), with the kinds of
// details that FCM sends: google.firebase.fcm.v1.FcmError, ApnsError if Apple refused
// an iPhone's push, and google.rpc.BadRequest.
type failure struct {
	Error struct {
		Status  string `json:"status"`
		Message string `json:"message"`
		Details []struct {
			Type       string      `json:"@type"`
			ErrorCode  string      `json:"errorCode"`
			Reason     string      `json:"reason"`
			Violations []violation `json:"fieldViolations"`
		} `json:"details"`
	} `json:"error"`
}

type violation struct {
	Field string `json:"field"`
}

func (x *exchange) reply(answers push.Answers) push.Reply {
	var f failure
	// A body that is not JSON comes from an intermediary: only the status counts.
	_ = json.Unmarshal(x.body, &f)
	d := f.details()
	found := answers.Find(x.status, f.key(d))
	r := push.Reply{Reason: found.Reason, About: found.About, Detail: push.Word(d.code)}
	if r.Detail == "" {
		r.Detail = push.Word(f.Error.Status)
	}
	if r.Detail == "" {
		r.Detail = "HTTP " + strconv.Itoa(x.status)
	}
	if reason := push.Word(d.apns); reason != "" {
		r.Detail += " " + reason
	}
	if r.Reason == push.BadRequest {
		for _, field := range d.fields {
			field, _, _ = strings.Cut(field, "[")
			r.Detail = push.Clean(r.Detail+" "+push.Word(field), "")
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

// details is what FCM adds to google.rpc.Status.
type details struct {
	code   string // FCM's own error code
	apns   string // Apple's reason
	fields []string
}

func (f *failure) details() (d details) {
	for _, detail := range f.Error.Details {
		switch {
		case strings.HasSuffix(detail.Type, "/google.firebase.fcm.v1.FcmError"):
			d.code = detail.ErrorCode
		case strings.HasSuffix(detail.Type, "/google.firebase.fcm.v1.ApnsError"):
			d.apns = detail.Reason
		}
		for _, v := range detail.Violations {
			d.fields = append(d.fields, v.Field)
		}
	}
	return d
}

// key returns the word for looking up the failure in Answers.
func (f *failure) key(d details) string {
	switch {
	case f.namesToken(d):
		return badToken
	case d.code != "":
		return d.code
	case d.apns != "": // Apple has refused Firebase; Firebase has not refused us
		return d.apns
	}
	return f.Error.Status
}

// namesToken reports whether an INVALID_ARGUMENT is about the token: by its field,
// or, if no field is named, by FCM's own error and its text. A payload that is too
// big gives that error too, and must not cost a device its binding.
func (f *failure) namesToken(d details) bool {
	if d.code != "" && d.code != "INVALID_ARGUMENT" {
		return false
	}
	for _, field := range d.fields {
		if field == "message.token" || field == "message.fid" {
			return true
		}
	}
	return len(d.fields) == 0 && d.code == "INVALID_ARGUMENT" &&
		strings.Contains(strings.ToLower(f.Error.Message), "registration token")
}

// noAnswer explains a try that got no status.
func noAnswer(ctx context.Context, x *exchange, token string) push.Reply {
	if reply, ended := push.Ended(ctx); ended {
		return reply
	}
	if x.err == nil {
		return push.Reply{Reason: push.Unavailable, Detail: "no answer"}
	}
	return push.Reply{Reason: push.Unavailable, Detail: push.Clean(x.err.Error(), token), Starved: push.Starved(x.err)}
}
