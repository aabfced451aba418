package push

// Privacy says how much a push may tell of what it is about. The services store
// pushes, and what they store can be asked of them.
type Privacy string

// The levels.
const (
	PrivacyNone   Privacy = "none"   // what the template says
	PrivacyNumber Privacy = "number" // of the caller only the number; no texts, names and headers
	PrivacyFull   Privacy = "full"   // nothing but the wake's UUID
)

// Hide returns what of v a template for the kind is filled with. What shows
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
