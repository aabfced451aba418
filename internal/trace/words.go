package trace

import (
	"fmt"
	"strings"
	"time"
)

// Span formats a duration for people: 45 ms, 1.9 s, 2 min 5 s.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 59950*time.Millisecond:
		return strings.Replace(fmt.Sprintf("%.1f s", d.Seconds()), ".0 s", " s", 1)
	}
	d = d.Round(time.Second)
	if s := int(d.Seconds()) % 60; s > 0 {
		return fmt.Sprintf("%d min %d s", int(d.Minutes()), s)
	}
	return fmt.Sprintf("%d min", int(d.Minutes()))
}

// serviceOf returns the name of the event's push service.
func serviceOf(e *Event) string {
	provider := e.Provider
	if provider == "" && (e.Name == Pushing || e.Name == Accepted) {
		provider = e.Detail
	}
	return ServiceName(provider)
}

// ServiceName returns the name of a push service for people.
func ServiceName(provider string) string {
	switch provider {
	case "":
		return ""
	case "apns":
		return "Apple"
	case "fcm":
		return "Google"
	case "webpush":
		return "the Web Push service"
	case "hms":
		return "Huawei"
	case "acrobits":
		return "Acrobits' mediator"
	}
	return "your webhook " + provider
}

// unreached says which node could not be signalled, and briefly why.
func unreached(detail string) string {
	node, why, ok := strings.Cut(detail, ": ")
	if i := strings.LastIndex(why, ": "); i >= 0 {
		why = why[i+2:]
	}
	if why == "context deadline exceeded" {
		why = "no answer in time"
	}
	switch {
	case node == "":
		return "the node"
	case !ok:
		return "node " + node
	}
	return "node " + node + ": " + why
}

// failedWords says why a push failed. detail is a reason and the service's answer.
func failedWords(detail, service string) string {
	reason, said, _ := strings.Cut(detail, ": ")
	with := func(words string) string {
		if said == "" {
			return words
		}
		return words + " (" + said + ")"
	}
	switch reason {
	case "token_dead":
		return with(service + " refused the token: it is gone")
	case "token_bad":
		return with(service + " refused the token: it may be for another app or environment")
	case "credential":
		return with(service + " refused sipwake's own key or certificate")
	case "bad_request":
		return with(service + " refused the payload or a header")
	case "throttled":
		return with(service + " refused the push: too many")
	case "unavailable":
		return with(service + " could not be reached or failed")
	case "timeout":
		return with(service + " did not answer in time")
	case "expired":
		return with("the push waited too long for " + service)
	case "dropped":
		return "not pushed: the call had ended by then"
	case "queue_full":
		return "not pushed: too many pushes wait for " + service
	case "breaker_open":
		return with("not pushed: " + service + " keeps failing; sipwake tries it again later")
	case "no_app":
		return "not pushed: no app in the configuration serves this phone"
	case "no_token":
		return "not pushed: the phone has no token for this kind of push"
	case "shut_down":
		return "not pushed: sipwake was stopping"
	case "policy":
		return "not pushed: the app's policy forbids it at this load"
	case "denied":
		return "not pushed: the user or the app's policy forbids it"
	}
	return with("the push failed: " + reason)
}
