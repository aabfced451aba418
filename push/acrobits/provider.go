// Package acrobits pushes to apps made with Acrobits' SDK, such as Groundwire, that
// register by SIP themselves ("SIPIS-less"). Such an app puts no push parameters into
// its REGISTER. It reports its tokens by HTTP to an address in its account's
// settings, and Reports reads these reports. Pushes go through Acrobits' mediator,
// which holds the app's credentials.
//
// Each try of a push is one POST of JSON with a verb, the token with its application
// ID, and the selector of the account on the phone. For a call, Id is its Call-ID, by
// which the app recognizes the INVITE. If the Call-ID must not be revealed, Id is the
// UUID of the wake, which the proxy adds to the INVITE as X-Push-ID.
package acrobits

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/push"
)

// The mediator's verbs.
const (
	verbCall     = "NotifyIncomingCall"
	verbMissed   = "NotifyIncomingCallMissed"
	verbAnswered = "NotifyIncomingCallAnsweredElsewhere"
	verbText     = "NotifyGenericTextMessage"
)

// The fields that this provider's templates produce, for the Provider to read.
const (
	call   = `{"Id":"{CALLID}","UUID":"{UUID}","UserName":"{FROM}","UserDisplayName":"{FROMDISPLAYNAME}"}`
	cancel = `{"Id":"{CALLID}","UUID":"{UUID}","UserName":"{FROM}","UserDisplayName":"{FROMDISPLAYNAME}","reason":"{REASON}"}`
	text   = `{"Id":"{UUID}","UserName":"{FROM}","UserDisplayName":"{FROMDISPLAYNAME}","title":"{TITLE}","Message":"{BODY}","Sound":"{SOUND}"}`
)

// Provider pushes through the mediator. Safe for concurrent use.
type Provider struct {
	url     string
	poster  *push.Poster
	answers push.Answers
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// Close implements push.Provider.
func (p *Provider) Close() { p.poster.Close() }

// Probe implements push.Prober: it opens a connection without sending a request.
func (p *Provider) Probe(ctx context.Context) error {
	return push.ProbeConnection(ctx, p.poster.Transport, "endpoint", p.url)
}

// Push implements push.Provider. It makes one request and does not follow redirects.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	defer p.poster.Use()()
	report, ok := parse(n.Token)
	if !ok {
		return push.Reply{Reason: push.TokenBad, About: push.AboutToken, Detail: "the token is not a report of an app"}
	}
	body, token, err := message(n, &report)
	switch {
	case n.Kind == push.Refresh:
		return push.Reply{Reason: push.BadRequest, Detail: "there is no push for this kind"}
	case err != nil: // the error may quote the payload
		return push.Reply{Reason: push.BadRequest, Detail: "the payload is not valid JSON"}
	case token.Empty():
		return push.Reply{Reason: push.NoToken, Detail: "the app has reported no token for this kind"}
	}
	answer, err := p.poster.Post(ctx, p.url, nil, body)
	if err != nil {
		return push.NoAnswer(ctx, err, "endpoint")
	}
	return p.reply(answer)
}

// message returns the body of a push and the token that it names.
func message(n *push.Notification, r *Report) ([]byte, secret.Token, error) {
	fields := make(map[string]any)
	if err := json.Unmarshal(n.Payload, &fields); err != nil {
		return nil, secret.Token{}, err
	}
	app, token, verb := r.CallApp, r.CallToken, verbText
	switch n.Kind {
	case push.Call:
		verb = verbCall
	case push.Cancel:
		// Without a reason it is unknown whether the call was missed.
		verb = verbAnswered
		if reason := fields["reason"]; reason != "" && reason != "answered" && reason != "declined" {
			verb = verbMissed
		}
		app, token = r.OtherApp, r.OtherToken
		if token.Empty() {
			app, token = r.CallApp, r.CallToken
		}
	default:
		app, token = r.OtherApp, r.OtherToken
		if title := fields["title"]; fields["Message"] == "" && title != "" {
			fields["Message"] = title // a text is required
		}
	}
	if fields["Id"] == "" {
		fields["Id"] = fields["UUID"]
	}
	for _, own := range []string{"UUID", "reason", "title"} {
		delete(fields, own)
	}
	for key, value := range fields {
		if value == "" {
			delete(fields, key)
		}
	}
	fields["verb"], fields["AppId"], fields["DeviceToken"], fields["Selector"] = verb, app, token.Reveal(), r.Selector
	body, err := json.Marshal(fields)
	return body, token, err
}

// reply translates the mediator's answer: HTTP 2xx with its own code, which is 200 if
// the push was accepted. Its text may contain the token.
func (p *Provider) reply(a push.Posted) push.Reply {
	var answer struct {
		Code int `json:"code"`
	}
	var code string
	if json.Unmarshal(a.Body, &answer) == nil && answer.Code != 0 { // otherwise it is not from the mediator
		code = strconv.Itoa(answer.Code)
	}
	if a.Status/100 == 2 && answer.Code == http.StatusOK {
		return push.Reply{Reason: push.Accepted}
	}
	found := p.answers.Find(a.Status, code)
	r := push.Reply{Reason: found.Reason, About: found.About, Detail: strings.TrimSpace("HTTP " + strconv.Itoa(a.Status) + " " + code)}
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(a.Header.Get("Retry-After"), time.Now())
	}
	return r
}
