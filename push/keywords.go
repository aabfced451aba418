package push

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// filling is everything that a template is filled from.
type filling struct {
	*Request
	Delivery
	now time.Time
}

// keyword is a word that a template may contain.
type keyword struct {
	text func(r *filling) string
	// long texts are cut if a payload is too long.
	long bool
}

// findKeyword looks up a keyword by its name with braces.
func findKeyword(name string) (keyword, bool) {
	switch name {
	case "{PACKAGE}": // the address's app, such as the bundle ID
		return keyword{text: func(r *filling) string { return r.App }}, true
	case "{TOKEN}":
		return keyword{text: func(r *filling) string { return r.Token.Reveal() }}, true
	case "{TO}": // the AOR to wake
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
	case "{MSG}", "{MESSAGE}", "{BODY}": // the text of a message, or who is calling
		return keyword{text: body, long: true}, true
	case "{TITLE}": // the title of a push.send, or else the caller
		return keyword{text: title, long: true}, true
	case "{CALLED}": // what was dialled
		return keyword{text: func(r *filling) string { return r.Values.Called }}, true
	case "{CALLEDURI}":
		return keyword{text: func(r *filling) string { return r.Values.CalledURI }}, true
	case "{REASON}": // for a cancel: answered, cancelled, timeout, busy, declined or failed
		return keyword{text: func(r *filling) string { return r.Values.Reason }}, true
	case "{VERSTAT}": // such as TN-Validation-Passed
		return keyword{text: func(r *filling) string { return r.Values.Verstat }}, true
	}
	if header, ok := strings.CutPrefix(name, "{"+headerWord); ok {
		header = strings.ToLower(strings.TrimSuffix(header, "}"))
		return keyword{text: func(r *filling) string { return r.Values.Headers[header] }, long: true}, HeaderName(header)
	}
	return deliveryKeyword(name)
}

// headerWord is the prefix of a header's keyword, as in {HEADER:Call-Info}.
const headerWord = "HEADER:"

// HeaderName reports whether a template may name the header: letters, digits,
// hyphens and underscores.
func HeaderName(s string) bool {
	return s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// deliveryKeyword looks up the keywords that say how the push is sent.
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
	case "{SENT}": // when the push was made, in seconds since 1970
		text = func(r *filling) string { return strconv.FormatInt(r.now.Unix(), 10) }
	case "{EXPIRES}": // when it becomes useless, in the same format
		text = func(r *filling) string { return strconv.FormatInt(r.Deadline.Unix(), 10) }
	case "{SOUND}":
		text = func(r *filling) string { return r.Sound }
	}
	return keyword{text: text}, text != nil
}

// bareWord is a word that may be a keyword without braces.
var bareWord = regexp.MustCompile(`\{?\w+`)

// jsonString matches a string in JSON text, with the following colon if it is a key.
var jsonString = regexp.MustCompile(`"(?:[^"\\]|\\.)*"(\s*:)?`)

// braceKeywords adds braces to the keywords of a JSON text that lack them, as in
// MPUSH files, and quotes to those outside a string. "TTLNUMs" contains a keyword,
// "MSG_ID" does not, and keys never do.
func braceKeywords(text []byte) []byte {
	brace := func(words []byte, open, end string) []byte {
		return bareWord.ReplaceAllFunc(words, func(word []byte) []byte {
			capitals := strings.TrimRight(string(word), "abcdefghijklmnopqrstuvwxyz")
			name := "{" + capitals + "}"
			if _, ok := findKeyword(name); !ok {
				return word
			}
			return slices.Concat([]byte(open+name+end), word[len(capitals):])
		})
	}
	var out []byte
	at := 0
	for _, m := range jsonString.FindAllSubmatchIndex(text, -1) {
		out = append(out, brace(text[at:m[0]], `"`, `"`)...)
		part := text[m[0]:m[1]]
		if isKey := m[2] >= 0; !isKey {
			part = brace(part, "", "")
		}
		out = append(out, part...)
		at = m[1]
	}
	return append(out, brace(text[at:], `"`, `"`)...)
}

// callerName returns the display name or a substitute: an alert without a text is not
// shown.
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
	if r.Values.Body != "" || r.Kind != Call {
		return r.Values.Body
	}
	if who := callerName(r); who != "" {
		return "Incoming call from " + who
	}
	return "Incoming call"
}
