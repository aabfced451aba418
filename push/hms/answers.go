package hms

import "github.com/sipwake/sipwake/push"

// accepted is the code for an accepted push.
const accepted = "80000000"

// The codes for a refused access token.
const (
	refusedToken = "80200001"
	expiredToken = "80200003"
)

// Answers lists what Push Kit may answer, other than accepting: the code of its JSON
// body, or otherwise the HTTP status. The codes are documented at
// https://developer.huawei.com/consumer/en/doc/HMSCore-References/https-send-api-0000001050986197
//
// An unknown token and a token of another app have the same code. For a token of
// another app, Huawei may also answer that the app may not push, so that answer stops
// no other push.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"80300007", "80100000"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"80300002"},
			About: push.AboutToken, Reason: push.Credential,
		},
		{
			Said:  []string{refusedToken, "80600003"},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{ // another access token may work
			Said:  []string{expiredToken},
			About: push.AboutConnection, Reason: push.Unavailable,
		},
		{
			Said:  []string{"503", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said: []string{"80100001", "80100003", "80100004", "80100013", "80100016", "80100018", "80300008", "80300010", "80300011", "80300013",
				"413"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
		{
			Said:  []string{"81000001", "*"},
			About: push.AboutService, Reason: push.Unavailable,
		},
	}
}
