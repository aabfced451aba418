// Package hms pushes through the API of Huawei's Push Kit in HMS Core: to Android
// phones with HMS Core, and to HarmonyOS up to 4. HarmonyOS 5 and later have another
// API with other credentials.
//
// Each try of a push is one POST with an OAuth 2.0 access token, obtained with the
// app's client credentials.
package hms

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/sipwake/sipwake/push"
	"github.com/sipwake/sipwake/push/oauth"
)

// Provider pushes for one app at Huawei. Safe for concurrent use.
type Provider struct {
	url     string // of messages:send
	source  *oauth.Source
	poster  *push.Poster
	answers push.Answers
}

var (
	_ push.Provider = (*Provider)(nil)
	_ push.Prober   = (*Provider)(nil)
)

// newProvider does not connect.
func newProvider(url string, grant clientcredentials.Config, poster *push.Poster) *Provider {
	grant.AuthStyle = oauth2.AuthStyleInParams
	ask := func(ctx context.Context) (oauth.Token, error) {
		token, _, err := oauth.Grant(ctx, poster.Transport, grant, time.Now())
		return token, err
	}
	return &Provider{url: url, source: oauth.NewSource(time.Now, ask), poster: poster, answers: push.NewAnswers(Answers())}
}

// Close implements push.Provider.
func (p *Provider) Close() { p.poster.Close() }

// Probe implements push.Prober: it gets an access token from Huawei.
func (p *Provider) Probe(ctx context.Context) error {
	if _, err := p.source.Bearer(ctx); err != nil {
		return errors.New(oauth.Reply(ctx, err).Detail)
	}
	return nil
}

// Push implements push.Provider. It makes one request to Push Kit, and one for a new
// access token when the present one is about to expire.
func (p *Provider) Push(ctx context.Context, n *push.Notification) push.Reply {
	defer p.poster.Use()()
	switch {
	case n.Token.Empty():
		return push.Reply{Reason: push.NoToken, Detail: "there is no token"}
	case !push.Visible(n.Token.Reveal()):
		return push.Reply{Reason: push.TokenBad, About: push.AboutToken, Detail: "the token is not one of Push Kit"}
	}
	body, err := message(n, time.Now())
	if err != nil {
		return push.Reply{Reason: push.BadRequest, Detail: err.Error()}
	}
	access, err := p.source.Bearer(ctx)
	if err != nil {
		return oauth.Reply(ctx, err)
	}
	answer, err := p.poster.Post(ctx, p.url, http.Header{"Authorization": {"Bearer " + access.Text}}, body)
	if err != nil {
		return push.NoAnswer(ctx, err, "endpoint")
	}
	return p.reply(answer, access)
}

// reply translates an answer to a push that used this access token.
func (p *Provider) reply(posted push.Posted, access oauth.Token) push.Reply {
	var answer struct {
		Code string `json:"code"`
		ID   string `json:"requestId"`
	}
	// A body that is not JSON comes from an intermediary: only the status counts.
	_ = json.Unmarshal(posted.Body, &answer)
	if _, err := strconv.ParseUint(answer.Code, 10, 32); err != nil {
		answer.Code = ""
	}
	if posted.Status == http.StatusOK && answer.Code == accepted {
		return push.Reply{Reason: push.Accepted, ID: push.Clean(answer.ID, "")}
	}
	found := p.answers.Find(posted.Status, answer.Code)
	r := push.Reply{Reason: found.Reason, About: found.About, Detail: strings.TrimSpace("HTTP " + strconv.Itoa(posted.Status) + " " + answer.Code)}
	if (answer.Code == refusedToken || answer.Code == expiredToken) && p.source.Refused(access) {
		// Our secret is fine: the access token was revoked early.
		r.Reason, r.About = push.Unavailable, push.AboutConnection
	}
	if r.Reason == push.Throttled || r.Reason == push.Unavailable {
		r.RetryAfter = push.RetryAfter(posted.Header.Get("Retry-After"), time.Now())
	}
	return r
}
