package push

// Privacy says how much a push may reveal. The push services store pushes, and can be
// made to hand over what they store.
type Privacy string

// The levels.
const (
	PrivacyNone   Privacy = "none"   // what the template says
	PrivacyNumber Privacy = "number" // only the caller's number; no texts, names or headers
	PrivacyFull   Privacy = "full"   // nothing but the wake's UUID
)

// Hide returns the part of v that may fill a template for the kind. A push that shows
// something still has a text to show.
func (p Privacy) Hide(k Kind, v Values) Values {
	shown := Values{UUID: v.UUID}
	switch p {
	case PrivacyFull:
	case PrivacyNumber:
		shown.AOR, shown.User, shown.CallID, shown.Media, shown.Verstat, shown.Reason = v.AOR, v.User, v.CallID, v.Media, v.Verstat, v.Reason
	default:
		return v
	}
	if shown.User == "" {
		switch k {
		case Chat:
			shown.Title = "New message"
		case Custom:
			shown.Title = "Notification"
		}
	}
	return shown
}
