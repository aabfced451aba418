package apns

import "github.com/sipwake/sipwake/push"

// Apple's reasons that this package acts on.
const (
	expiredProviderToken        = "ExpiredProviderToken"
	invalidProviderToken        = "InvalidProviderToken"
	missingProviderToken        = "MissingProviderToken"
	unrelatedKeyID              = "UnrelatedKeyIdInToken"
	idleTimeout                 = "IdleTimeout"
	tooManyProviderTokenUpdates = "TooManyProviderTokenUpdates"
	badEnvironmentKeyID         = "BadEnvironmentKeyIdInToken"
	badEnvironmentKey           = "BadEnvironmentKeyInToken"
)

// Answers lists what APNs may answer, by Apple's page "Handling notification
// responses from APNs". A reason that is not on the page is taken to concern only its
// own push.
func Answers() []push.Answer {
	return []push.Answer{
		{
			Said:  []string{"410 Unregistered", "410 ExpiredToken"},
			About: push.AboutToken, Reason: push.TokenDead,
		},
		{
			Said:  []string{"400 BadDeviceToken", "400 DeviceTokenNotForTopic", "410"},
			About: push.AboutToken, Reason: push.TokenBad,
		},
		{
			Said:  []string{"429 TooManyRequests"},
			About: push.AboutToken, Reason: push.Throttled,
		},
		{
			// BadEnvironmentKey…: Apple's page has the first name, its servers
			// send the second. The key is for the other environment, so another
			// connection does not help.
			Said: []string{
				"403 " + invalidProviderToken, "403 " + expiredProviderToken, "403 " + missingProviderToken,
				"403 " + badEnvironmentKeyID, "403 " + badEnvironmentKey,
				"403 BadCertificate", "403 BadCertificateEnvironment", "403 Forbidden", "401", "403", "407",
			},
			About: push.AboutCredential, Reason: push.Credential,
		},
		{
			Said:  []string{"429 " + tooManyProviderTokenUpdates},
			About: push.AboutCredential, Reason: push.Throttled,
		},
		{ // the connection was begun with another key, or is closed
			Said:  []string{"403 " + unrelatedKeyID, "400 " + idleTimeout},
			About: push.AboutConnection, Reason: push.Unavailable,
		},
		{
			Said:  []string{"500 InternalServerError", "503 ServiceUnavailable", "503 Shutdown", "5xx", "408"},
			About: push.AboutService, Reason: push.Unavailable,
		},
		{
			Said:  []string{"429"},
			About: push.AboutService, Reason: push.Throttled,
		},
		{
			Said:  []string{"401 *", "403 *"},
			About: push.AboutPush, Reason: push.Credential,
		},
		{
			// The topic errors concern one topic, such as the VoIP topic, and not the
			// app's other topics.
			Said: []string{
				"400 BadTopic", "400 MissingTopic", "400 TopicDisallowed", "400 BadCollapseId", "400 BadExpirationDate",
				"400 BadMessageId", "400 BadPriority", "400 DuplicateHeaders", "400 InvalidPushType",
				"400 MissingDeviceToken", "400 PayloadEmpty", "404 BadPath", "405 MethodNotAllowed",
				"413 PayloadTooLarge", "*",
			},
			About: push.AboutPush, Reason: push.BadRequest,
		},
	}
}
