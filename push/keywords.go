package push

import (
	"slices"
	"strconv"
	"strings"
)

// keyword is a word that a template may hold.
type keyword struct {
	text func(r *Request) string
	// long texts are cut when a payload is too long.
	long bool
}

// findKeyword knows the words by their name with braces.
func findKeyword(name string) (keyword, bool) {
	switch name {
	case "{PACKAGE}": // the address's app, such as the bundle ID
		return keyword{text: func(r *Request) string { return r.App }}, true
	case "{TOKEN}":
		return keyword{text: func(r *Request) string { return r.Token.Reveal() }}, true
	case "{TO}": // the AOR that is woken
		return keyword{text: func(r *Request) string { return r.Values.AOR }}, true
	case "{TOUSER}": // its user part
		return keyword{text: func(r *Request) string { user, _, _ := strings.Cut(r.Values.AOR, "@"); return user }}, true
	case "{TYPE}": // 0 call, 1 chat, 2 cancel, 3 custom, 4 refresh
		return keyword{text: func(r *Request) string { return strconv.Itoa(slices.Index(Kinds(), r.Kind)) }}, true
	case "{KIND}": // the same as a word
		return keyword{text: func(r *Request) string { return string(r.Kind) }}, true
	case "{FROM}": // the caller's URI
		return keyword{text: func(r *Request) string { return r.Values.From }}, true
	case "{FROMUSERNAME}": // its user part
		return keyword{text: func(r *Request) string { return r.Values.User }}, true
	case "{FROMDISPLAYNAME}": // how to show the caller
		return keyword{text: callerName, long: true}, true
	case "{CALLID}":
		return keyword{text: func(r *Request) string { return r.Values.CallID }}, true
	case "{UUID}":
		return keyword{text: func(r *Request) string { return r.Values.UUID }}, true
	case "{MEDIA}": // audio, video or nothing
		return keyword{text: func(r *Request) string { return r.Values.Media }}, true
	case "{MSG}", "{MESSAGE}", "{BODY}": // the text of a message
		return keyword{text: func(r *Request) string { return r.Values.Body }, long: true}, true
	case "{TITLE}": // the title of a push.send, or else the caller
		return keyword{text: title, long: true}, true
	}
	return keyword{}, false
}

// callerName is the display name, or what there is instead: an alert without a
// text is not shown.
func callerName(r *Request) string {
	switch v := &r.Values; {
	case v.Display != "":
		return v.Display
	case v.User != "":
		return v.User
	default:
		return v.From
	}
}

func title(r *Request) string {
	if r.Values.Title != "" {
		return r.Values.Title
	}
	return callerName(r)
}
