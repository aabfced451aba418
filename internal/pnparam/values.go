package pnparam

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/sipwake/sipwake/internal/secret"
)

// Limits of the values that are stored for clients, in bytes after decoding.
const (
	maxProvider  = 64
	maxApp       = 255
	maxToken     = 4096
	maxAPNsToken = 200 // 64 today, but Apple says not to rely on it
)

// The checks in this file return what is wrong with a value, as a text that follows its
// name, or "". They never quote the value.

func tooLong(longest int) (problem string) {
	return "is longer than " + strconv.Itoa(longest) + " bytes"
}

func checkProvider(p Provider) (problem string) {
	if len(p) > maxProvider {
		return tooLong(maxProvider)
	}
	if !printable(string(p)) {
		return "has a character that is not printable"
	}
	return ""
}

func checkApp(app string) (problem string) {
	if len(app) > maxApp {
		return tooLong(maxApp)
	}
	if !printable(app) {
		return "has a character that is not printable"
	}
	return ""
}

func checkToken(p Provider, token string) (problem string) {
	if token == "" {
		return "has an empty token"
	}
	longest := maxToken
	if p == APNs {
		longest = maxAPNsToken
	}
	if len(token) > longest {
		return tooLong(longest)
	}
	if p == APNs {
		if len(token)%2 != 0 || !isHex(token) {
			return "is not a device token in hexadecimal"
		}
		return ""
	}
	if !printable(token) {
		return "has a character that is not printable"
	}
	if p == WebPush {
		// The push provider decides whether it may connect there.
		u, err := url.Parse(token)
		if err != nil || strings.IndexByte(token, '|') >= 0 || u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
			return "is not an https URL"
		}
	}
	return ""
}

// bundle splits an APNs app into Apple's Team ID, bundle ID and the services after it,
// separated by "&".
//
// Team IDs have ten characters; eight are accepted too, because published examples use
// them. No bundle ID begins with such a label, so the Team ID can be missing, as in some
// clients.
func bundle(app string) (team, id, services string) {
	id = app
	if first, rest, _ := cut(id, '.'); isTeamID(first) {
		team, id = first, rest
	}
	head, _, _ := cut(id, '&')
	if i := strings.LastIndexByte(head, '.'); i >= 0 {
		last := Service(head[i+1:])
		if last == VoIP || last == Remote {
			id, services = id[:i], id[i+1:]
		}
	}
	return team, id, services
}

func isTeamID(s string) bool {
	for i := range len(s) {
		if b := s[i]; (b < 'A' || b > 'Z') && (b < '0' || b > '9') {
			return false
		}
	}
	return len(s) >= 8 && len(s) <= 10
}

// readApp sets the app and, for APNs, the team, for dialects with one parameter for both.
// It returns the service in that parameter. A client that unbinds need not name the app.
func (a *Address) readApp(app string, bind bool) (service Service, problem string) {
	if problem := checkApp(app); problem != "" {
		return "", problem
	}
	switch a.Provider {
	case APNs:
		var services string
		a.Team, a.App, services = bundle(app)
		if strings.IndexByte(app, '&') >= 0 {
			return "", "names more than one service"
		}
		service = Service(services)
	default:
		a.App = app
	}
	if bind && a.App == "" && (a.Provider == APNs || a.Provider == FCM) {
		return "", "names no app"
	}
	return service, ""
}

// setToken sets the only token.
func (a *Address) setToken(s Service, token string) (problem string) {
	if problem := checkToken(a.Provider, token); problem != "" {
		return problem
	}
	a.Tokens = []Token{{s, secret.NewToken(token)}}
	return ""
}

// isNull reports whether the client has no token: the value is empty, or the text that
// its programming language prints for nothing.
func isNull(token string) bool {
	return token == "" || strings.EqualFold(token, "null") || token == "(null)"
}

// cutPair splits VOIP-REMOTE into two APNs tokens at any of the separators. A null token
// becomes empty.
func cutPair(s, separators string) (voip, remote string, ok bool) {
	i := strings.IndexAny(s, separators)
	if i < 0 {
		return "", "", false
	}
	if voip, remote = s[:i], s[i+1:]; isNull(voip) {
		voip = ""
	}
	if isNull(remote) {
		remote = ""
	}
	return voip, remote, true
}

// checkPair checks the tokens of a pair that are not empty.
func checkPair(voip, remote string) (problem string) {
	for _, t := range [...]string{voip, remote} {
		if problem := checkToken(APNs, t); t != "" && problem != "" {
			return problem
		}
	}
	return ""
}

// unescape decodes %HH once; "+" stays "+".
func unescape(s string) (string, bool) {
	if strings.IndexByte(s, '%') < 0 {
		return s, true
	}
	d, err := url.PathUnescape(s) // the error quotes its input
	return d, err == nil
}

// unescapeSome decodes each valid %HH of s once.
func unescapeSome(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) && isHex(s[i+1:i+3]) {
			b = append(b, hexValue(s[i+1])<<4|hexValue(s[i+2]))
			i += 2
			continue
		}
		b = append(b, s[i])
	}
	return string(b)
}

// hexValue returns the value of a hexadecimal digit.
func hexValue(b byte) byte {
	if b <= '9' {
		return b - '0'
	}
	return b | 0x20 - 'a' + 10
}

// printable reports whether s has only visible ASCII characters.
func printable(s string) bool {
	for i := range len(s) {
		if s[i]-'!' > '~'-'!' {
			return false
		}
	}
	return true
}

func isHex(s string) bool {
	for i := range len(s) {
		if s[i]-'0' > 9 && (s[i]|0x20)-'a' > 5 {
			return false
		}
	}
	return true
}
