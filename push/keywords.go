package push

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// filling is all that a template is filled from.
type filling struct {
	*Request
	Delivery
	now time.Time
}

// keyword is a word that a template may hold.
type keyword struct {
	text func(r *filling) string
	// long texts are cut when a payload is too long.
	long bool
}

// findKeyword knows the words by their name with braces.
func findKeyword(name string) (keyword, bool) {
	switch name {
	case "{PACKAGE}": // the address's app, such as the bundle ID
		return keyword{text: func(r *filling) string { return r.App }}, true
	case "{TOKEN}":
		return keyword{text: func(r *filling) string { return r.Token.Reveal() }}, true
	case "{TO}": // the AOR that is woken
		return keyword{text: func(r *filling) string { return r.Values.AOR }}, true
	case "{TOUSER}", "{TOUSERNAME}": // its user part
		return keyword{text: func(r *filling) string { user, _, _ := strings.Cut(r.Values.AOR, "@"); return user }}, true
	case "{TYPE}": // 0 call, 1 chat, 2 cancel, 3 custom, 4 refresh
		return keyword{text: func(r *filling) string { return strconv.Itoa(slices.Index(Kinds(), r.Kind)) }}, true
	case "{KIND}": // the same as a word
		return keyword{text: func(r *filling) string { return string(r.Kind) }}, true
	case "{FROMURI}": // the caller's URI
		return keyword{text: func(r *filling) string { return r.Values.From }}, true
	case "{FROM}", "{FROMUSERNAME}": // what to dial to call back
		return keyword{text: func(r *filling) string { return r.Values.User }}, true
	case "{FROMDISPLAYNAME}": // how to show the caller
		return keyword{text: callerName, long: true}, true
	case "{CALLID}":
		return keyword{text: func(r *filling) string { return r.Values.CallID }}, true
	case "{UUID}":
		return keyword{text: func(r *filling) string { return r.Values.UUID }}, true
	case "{MEDIA}": // audio, video or nothing
		return keyword{text: func(r *filling) string { return r.Values.Media }}, true
	case "{MSG}", "{MESSAGE}", "{BODY}": // the text of a message, or who calls
		return keyword{text: body, long: true}, true
	case "{TITLE}": // the title of a push.send, or else the caller
		return keyword{text: title, long: true}, true
	}
	return deliveryKeyword(name)
}

// deliveryKeyword knows the words that tell how the push is sent.
func deliveryKeyword(name string) (keyword, bool) {
	var text func(r *filling) string
	switch name {
	case "{PRIORITY}": // high or normal
		text = func(r *filling) string { return string(r.Priority) }
	case "{APRIORITY}": // the same as Apple's number, 10 or 5
		text = func(r *filling) string { return strconv.Itoa(r.ApplePriority()) }
	case "{NPRIORITY}": // the same as Android's notification_priority
		text = func(r *filling) string {
			if r.Priority == Normal {
				return "PRIORITY_DEFAULT"
			}
			return "PRIORITY_HIGH"
		}
	case "{PUSHTYPE}": // voip, alert or background
		text = func(r *filling) string { return string(r.PushType) }
	case "{TTLNUM}": // seconds that the service may store the push
		text = func(r *filling) string { return strconv.FormatInt(int64(r.TTL(r.now)/time.Second), 10) }
	case "{SOUND}":
		text = func(r *filling) string { return r.Sound }
	}
	return keyword{text: text}, text != nil
}

// braceKeywords puts the keywords of a JSON text into braces where they stand without,
// as they do in the files of MPUSH, and into quotes where they stand outside a string.
func braceKeywords(text []byte) []byte {
	capital := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	word := func(c byte) bool { return capital(c) || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '_' }
	out := make([]byte, 0, len(text)+64)
	inString := false
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '"':
			inString = !inString
		case c == '\\' && i+1 < len(text): // what is escaped is no quote, and begins no keyword
			out = append(out, c)
			i++
			c = text[i]
		case capital(c) && (i == 0 || !word(text[i-1]) && text[i-1] != '{'):
			end := i + 1
			for end < len(text) && capital(text[end]) {
				end++
			}
			name := "{" + string(text[i:end]) + "}"
			// "TTLNUMs" holds one, "MSG_ID" none.
			_, known := findKeyword(name)
			if !known || end < len(text) && (text[end] == '_' || text[end] >= '0' && text[end] <= '9') {
				name = string(text[i:end])
			} else if !inString {
				name = `"` + name + `"`
			}
			out = append(out, name...)
			i = end - 1
			continue
		}
		out = append(out, c)
	}
	return out
}

// callerName is the display name, or what there is instead: an alert without a
// text is not shown.
func callerName(r *filling) string {
	switch v := &r.Values; {
	case v.Display != "":
		return v.Display
	case v.User != "":
		return v.User
	default:
		return v.From
	}
}

func title(r *filling) string {
	switch {
	case r.Values.Title != "":
		return r.Values.Title
	case r.Kind == Call:
		return "Incoming call"
	default:
		return callerName(r)
	}
}

func body(r *filling) string {
	if r.Values.Body == "" && r.Kind == Call {
		return "Incoming call from " + callerName(r)
	}
	return r.Values.Body
}
