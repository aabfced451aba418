package webpush

import "github.com/sipwake/sipwake/push"

// Apple's reasons that are more specific than what is known about a signature.
const (
	badJWT      = "BadJwtToken"
	keyMismatch = "VapidPkHashMismatch"
)

// takenBefore stands for a 403 to a signature with which the service has already
// accepted a push: the subscription belongs to another key (RFC 8292 section 4.2).
const takenBefore = "to a signature that was taken before"

// Answers lists what Web Push services may answer, by RFC 8030 and RFC 8292. 406 is
// Microsoft's. The words are Apple's, from "Sending web push notifications in web
// apps and browsers".
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"404", "410"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{keyMismatch, "403 " + takenBefore, "400 BadDeviceToken", "404 BadPath"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{badJWT, "BadVapidPublicKey", "BadAuthorizationHeader", "401", "403", "407"},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{
			Said:  []string{"406", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"408", "425", "5xx"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"400 BadTtl", "400 BadUrgency", "400 BadWebPushTopic", "413", "*"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}
