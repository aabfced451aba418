package fcm

import "github.com/sipwake/sipwake/push"

// badToken is INVALID_ARGUMENT when it is about the registration token. FCM has no
// separate code for it.
const badToken = "INVALID_ARGUMENT message.token"

// Answers lists what FCM may answer, by its errorCode or, if there is none, by the
// error's status. The errorCodes are those of the v1 API's ErrorCode page, and their
// earlier names. An errorCode with 401 or 403 is never about our own account, which
// is refused before FCM looks at the message.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"404 UNREGISTERED", "NotRegistered"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"400 " + badToken, "403 SENDER_ID_MISMATCH", "InvalidRegistration", "MismatchSenderId"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"DeviceMessageRateExceeded"},
			About: push.AboutToken, Reason: push.Throttled,
		},
		{
			Said:  []string{"THIRD_PARTY_AUTH_ERROR", "APNS_AUTH_ERROR", "InvalidApnsCredential", "401 *", "403 *"},
			About: push.AboutPlatform, Reason: push.Credential,
		},
		{
			Said:  []string{"401 UNAUTHENTICATED", "403 PERMISSION_DENIED", "401", "403", "407"},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{
			Said:  []string{"429 QUOTA_EXCEEDED", "429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{ // 200 without a message name: nobody accepted it
			Said:  []string{"500 INTERNAL", "503 UNAVAILABLE", "5xx", "408", "200"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"400 INVALID_ARGUMENT", "*"},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}
