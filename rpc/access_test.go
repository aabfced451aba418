package rpc

import (
	"testing"
)

// The scheme of an Authorization header is Bearer in any case (RFC 9110 11.1).
func TestBearerInAnyCase(t *testing.T) {
	s := serve(t, withPush(t, Config{}), nil)
	for authorization, want := range map[string]int{
		"Bearer " + serveToken: 200, "bearer " + serveToken: 200, "BEARER  " + serveToken: 200,
		"Basic " + serveToken: 401, "Bearer" + serveToken: 401, "Bearer": 401, serveToken: 401, "Bearer x" + serveToken: 401,
	} {
		if status, _, _ := ask(t, s.dial(""), post("Authorization: "+authorization+"\r\n", info)); status != want {
			t.Errorf("%.7s…: %d, want %d", authorization, status, want)
		}
	}
	text := "GET /mvapireq/?apientry=none HTTP/1.1\r\nHost: x\r\nAuthorization: bearer " + scriptToken + "\r\n\r\n"
	if status, _, _ := ask(t, s.dial(""), text); status != 400 {
		t.Errorf("scripts: %d", status)
	}
}

// A web page in a browser of this machine, or of one that has a tunnel to it, may not
// call where nobody shows a token.
func TestWebPagesMayNotCall(t *testing.T) {
	const origin = "Origin: https://evil.example\r\nContent-Type: text/plain\r\n"
	open := serve(t, Config{}, nil)
	if status, _, _ := ask(t, open.dial(""), post(origin, info)); status != 403 {
		t.Errorf("without a token: %d", status)
	}
	if status, _, _ := ask(t, open.dial(""), post("Content-Type: text/plain\r\n", info)); status != 200 {
		t.Errorf("a proxy: %d", status)
	}
	tokens := serve(t, withToken(t, Config{}), nil)
	if status, _, _ := ask(t, tokens.dial(""), post(origin+proven, info)); status != 200 {
		t.Errorf("with the token: %d", status)
	}
}
