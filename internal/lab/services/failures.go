package services

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/webpushsim"
)

// The services, by sipwake's names.
const (
	APNs    = "apns"
	FCM     = "fcm"
	WebPush = "webpush"
)

// Names returns the names of the services.
func Names() []string { return []string{APNs, FCM, WebPush} }

// Works is the name of the behaviour of a service that works.
const Works = "works"

// Behaviour is a way in which services answer pushes.
type Behaviour struct {
	Name    string // for requests
	Meaning string // for people

	apns    *apnssim.Behaviour // nil if the service does not support it
	fcm     *fcmsim.Behaviour
	webpush *webpushsim.Behaviour
}

// Knows reports whether the service supports the behaviour.
func (b *Behaviour) Knows(service string) bool {
	switch service {
	case APNs:
		return b.apns != nil
	case FCM:
		return b.fcm != nil
	case WebPush:
		return b.webpush != nil
	}
	return false
}

type (
	apple   = apnssim.Behaviour
	google  = fcmsim.Behaviour
	browser = webpushsim.Behaviour
)

// slow is the delay of a slow service.
const slow = 1500 * time.Millisecond

// Behaviours returns all behaviours of the services, by name.
func Behaviours() []Behaviour {
	return []Behaviour{
		{Works, "accepts pushes and delivers them", &apple{}, &google{}, &browser{}},
		{"slow", "works, but answers 1.5 s late", &apple{Delay: slow}, &google{Delay: slow}, &browser{Delay: slow}},
		{"unavailable", "answers 503", &apple{Status: 503, Reason: "ServiceUnavailable"}, &google{Status: 503, Code: "UNAVAILABLE"}, &browser{Status: 503}},
		{"error", "answers 500", &apple{Status: 500, Reason: "InternalServerError"}, &google{Status: 500, Code: "INTERNAL"}, &browser{Status: 500}},
		{"silent", "never answers", &apple{Fault: apnssim.Silence}, &google{Fault: fcmsim.Silence}, &browser{Fault: webpushsim.Silence}},
		{"reset", "resets the stream", &apple{Fault: apnssim.Reset}, &google{Fault: fcmsim.Reset}, &browser{Fault: webpushsim.Reset}},
		{"drop", "closes the connection without an answer", &apple{Fault: apnssim.Drop}, &google{Fault: fcmsim.Drop}, &browser{Fault: webpushsim.Drop}},
		{"goaway", "sends GOAWAY and closes the connection", &apple{Fault: apnssim.GoAway}, nil, nil},
		{"leave", "delivers, then ends the connection", &apple{Fault: apnssim.Leave}, nil, nil},
		{"flood", "answers with a body that never ends", nil, nil, &browser{Fault: webpushsim.Flood}},
		{"throttled", "answers 429", &apple{Status: 429, Reason: "TooManyRequests"}, &google{Status: 429, Code: "QUOTA_EXCEEDED"}, &browser{Status: 429}},
		{"unregistered", "says that the app was deleted: the token is dead", &apple{Status: 410, Reason: "Unregistered"},
			new(fcmsim.Unregistered()), &browser{Status: 410}},
		{"badtoken", "says that the token is not valid here", &apple{Status: 400, Reason: "BadDeviceToken"},
			new(fcmsim.BadToken()), &browser{Status: 400, Reason: "BadDeviceToken"}},
		{"credential", "refuses sipwake's own key", &apple{Status: 403, Reason: "InvalidProviderToken"},
			&google{Status: 403, Code: "PERMISSION_DENIED"}, &browser{Status: 401}},
		{"badrequest", "refuses the payload or a header", &apple{Status: 400, Reason: "BadTopic"}, new(fcmsim.BadField("message.android.ttl")), &browser{Status: 400, Reason: "BadTtl"}},
		{"proxy", "answers with the error page of a middlebox", &apple{Status: 502, Body: "<html>Bad Gateway</html>"},
			&google{Status: 502, Body: "<html>Bad Gateway</html>"}, &browser{Status: 502, Body: "<html>Bad Gateway</html>"}},
	}
}

// Find returns the behaviour of a service by its name. The error lists the valid names.
func Find(service, name string) (Behaviour, error) {
	var known []string
	for _, b := range Behaviours() {
		if !b.Knows(service) {
			continue
		}
		if b.Name == name {
			return b, nil
		}
		known = append(known, b.Name)
	}
	if len(known) == 0 {
		return Behaviour{}, fmt.Errorf("no push service %q, there is: %s", service, strings.Join(Names(), ", "))
	}
	return Behaviour{}, fmt.Errorf("%s cannot be %q, it can be: %s", service, name, strings.Join(known, ", "))
}

// Behave sets the behaviour of a service for all pushes, except those to tokens with their
// own behaviour.
func (s *Services) Behave(service, name string) error {
	b, err := Find(service, name)
	if err != nil {
		return err
	}
	switch service {
	case APNs:
		s.APNs.BehaveAll(b.appleNow())
	case FCM:
		s.FCM.BehaveAll(*b.fcm)
	case WebPush:
		s.WebPush.BehaveAll(*b.webpush)
	}
	return nil
}

// BehaveTo sets the behaviour of a service for pushes to one token, which for Web Push is
// the URL of a subscription. Works removes it: the token is treated like all others.
func (s *Services) BehaveTo(service, token, name string) error {
	b, err := Find(service, name)
	if err != nil {
		return err
	}
	own := name != Works
	switch service {
	case APNs:
		s.APNs.Behave(token, some(b.appleNow(), own)...)
	case FCM:
		s.FCM.Behave(token, some(*b.fcm, own)...)
	case WebPush:
		s.WebPush.Behave(token, some(*b.webpush, own)...)
	}
	return nil
}

func some[B any](b B, wanted bool) []B {
	if wanted {
		return []B{b}
	}
	return nil
}

// appleNow returns Apple's behaviour now. Like Apple, it says when a dead token died,
// because sipwake does not remove a phone that has registered since.
func (b *Behaviour) appleNow() apnssim.Behaviour {
	now := *b.apns
	if now.Status == http.StatusGone {
		now.Timestamp = time.Now().Add(time.Hour)
	}
	return now
}
