// Package wire adds sipwake.cfg to an administrator's own kamailio.cfg. It finds the
// places in a file like the one that comes with Kamailio and makes a patch.
package wire

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Options are settings that cannot be read from the file.
type Options struct {
	Domain string   // of all users; ignored if the file has several domains
	Listen []string // sockets such as udp:192.0.2.1:5060, for a file without any
}

// Wired is the result for a file.
type Wired struct {
	Text string // with the changes
	// Missing says what must be done by hand because its place was not found.
	Missing []string
	// Modules are those that sipwake.cfg must not load because the file loads them.
	Modules []string
}

// LocalFile is included beside sipwake.cfg. It has the settings of this machine,
// including secrets.
const LocalFile = "sipwake-local.cfg"

// edit replaces n lines, starting at line.
type edit struct {
	line, n int
	with    []string
}

// File adds sipwake.cfg to the text of a kamailio.cfg. It is an error if the text
// already includes sipwake.cfg, or if it is not a kamailio.cfg.
func File(text string, o Options) (Wired, error) {
	f := &file{lines: strings.SplitAfter(text, "\n")}
	f.conditions()
	if f.find(`^\s*include_file\s+"[^"]*sipwake\.cfg"`) >= 0 {
		return Wired{}, fmt.Errorf("it includes sipwake.cfg already")
	}
	request := f.find(`^\s*(request_route|route)\s*\{`)
	if request < 0 {
		return Wired{}, fmt.Errorf("it has no request_route")
	}
	f.include(request, o)
	f.parked(request)
	f.replies()
	f.register()
	f.call()
	f.http()
	slices.SortStableFunc(f.edits, func(a, b edit) int { return a.line - b.line })
	return Wired{Text: f.apply(), Missing: f.missing, Modules: f.modules}, nil
}

type file struct {
	lines   []string
	inside  [][]string // the conditions around each line, such as "ifdef WITH_NAT"
	edits   []edit
	missing []string
	modules []string
}

var condition = regexp.MustCompile(`^#!(ifdef|ifndef|ifexp|else|endif)\b\s*(.*?)\s*$`)

// conditions records the #!ifdef around each line.
func (f *file) conditions() {
	f.inside = make([][]string, len(f.lines))
	var around []string
	for i, line := range f.lines {
		m := condition.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		f.inside[i] = slices.Clone(around)
		switch {
		case m == nil:
		case m[1] == "endif":
			around = around[:max(len(around)-1, 0)]
		case m[1] == "else" && len(around) > 0:
			last := around[len(around)-1]
			if rest, ok := strings.CutPrefix(last, "ifdef "); ok {
				last = "ifndef " + rest
			} else {
				last = "ifdef " + strings.TrimPrefix(last, "ifndef ")
			}
			around = append(slices.Clone(around[:len(around)-1]), last)
		case m[1] != "else":
			around = append(slices.Clone(around), m[1]+" "+m[2])
		}
	}
}

// find returns the index of the first line that matches, -1 if there is none.
func (f *file) find(pattern string) int {
	return slices.IndexFunc(f.lines, regexp.MustCompile(pattern).MatchString)
}

// has reports whether the file tests or sets a define.
func (f *file) has(name string) bool { return f.find(`^#!(ifn?def|ifexp|trydef)\s+`+name+`\b`) >= 0 }

func (f *file) insert(line int, with ...string) {
	f.edits = append(f.edits, edit{line: line, with: with})
}

// under puts lines under the conditions of another line.
func under(conditions []string, lines ...string) []string {
	var out []string
	for _, c := range conditions {
		out = append(out, "#!"+c)
	}
	out = append(out, lines...)
	for range conditions {
		out = append(out, "#!endif")
	}
	return out
}

// shared are the modules that sipwake.cfg loads unless told not to.
var shared = [...]struct{ module, define string }{
	{"tsilo", "TSILO"}, {"jansson", "JANSSON"}, {"http_async_client", "HTTP_ASYNC"},
	{"htable", "HTABLE"}, {"xhttp", "XHTTP"}, {"tcpops", "TCPOPS"}, {"uac", "UAC"},
}

// include adds the settings and the script before request_route.
func (f *file) include(at int, o Options) {
	out := []string{`include_file "` + LocalFile + `"`}
	for _, m := range shared {
		if i := f.find(`^\s*loadmodule\s+"(\S*/)?` + m.module + `(\.so)?"`); i >= 0 {
			out = append(out, under(f.inside[i], "#!define SIPWAKE_HAVE_"+m.define)...)
			f.modules = append(f.modules, m.module)
		}
	}
	if f.has("WITH_MULTIDOMAIN") {
		out = append(out, "#!ifdef WITH_MULTIDOMAIN", "#!define SIPWAKE_USE_DOMAIN", "#!else",
			`#!define SIPWAKE_DOMAIN "`+o.Domain+`"`, "#!endif")
	} else {
		out = append(out, `#!define SIPWAKE_DOMAIN "`+o.Domain+`"`)
	}
	if f.find(`^\s*alias\s*=`) < 0 {
		out = append(out, `alias="`+o.Domain+`"`)
	}
	if f.find(`^route\[NATMANAGE\]`) >= 0 {
		out = append(out, "#!define SIPWAKE_BRANCH_HOOK NATMANAGE", "#!define SIPWAKE_REPLY_HOOK NATMANAGE",
			"#!define SIPWAKE_FAILURE_HOOK SIPWAKE_MANAGE_FAILURE")
	}
	if i := f.find(`^event_route\[xhttp:request\]`); i >= 0 {
		out = append(out, under(f.inside[i], "#!define SIPWAKE_OWN_XHTTP")...)
	}
	if i := f.find(`^event_route\[tm:local-request\]`); i >= 0 {
		out = append(out, under(f.inside[i], "#!define SIPWAKE_OWN_LOCAL_REQUEST")...)
	}
	if f.find(`^\s*loadmodule\s+"(\S*/)?jsonrpcs(\.so)?"`) < 0 {
		out = append(out, `loadmodule "jsonrpcs.so"`)
	}
	if f.find(`^\s*listen\s*=`) < 0 {
		out = append(out, "# sipwake.cfg listens on a port of its own, so these must be said")
		for _, l := range o.Listen {
			out = append(out, "listen="+l)
		}
	}
	if f.find(`^\s*tcp_accept_no_cl\s*=\s*yes`) < 0 || f.has("WITH_JSONRPC") {
		out = append(out, "tcp_accept_no_cl=yes")
	}
	out = append(out, `include_file "sipwake.cfg"`)
	out = append(out, f.failures()...)
	f.insert(at, append(out, "")...)
}

// failures returns a failure route that does for calls to phones what the file's own
// does, such as blocking and voicemail. A call that nobody answered ends with 599 in
// sipwake.cfg.
func (f *file) failures() []string {
	if f.find(`^route\[NATMANAGE\]`) < 0 {
		return nil
	}
	out := []string{"", "# what MANAGE_FAILURE does, for calls that sipwake.cfg takes", "route[SIPWAKE_MANAGE_FAILURE] {", "\troute(NATMANAGE);"}
	block := func(with, status string) {
		if f.has(with) {
			out = append(out, "#!ifdef "+with, "\tif (t_check_status(\""+status+"\")) {", "\t\tt_reply(\"404\", \"Not found\");", "\t\texit;", "\t}", "#!endif")
		}
	}
	block("WITH_BLOCK3XX", "3[0-9][0-9]")
	block("WITH_BLOCK401407", "401|407")
	if f.has("WITH_VOICEMAIL") && f.find(`^route\[TOVOICEMAIL\]`) >= 0 {
		out = append(out, "#!ifdef WITH_VOICEMAIL", "\tif (t_check_status(\"486|408|599\")) {", "\t\t$du = $null;", "\t\troute(TOVOICEMAIL);", "\t}", "#!endif")
	}
	return append(out, "}")
}

// parked adds the routes that come first to the beginning of request_route.
func (f *file) parked(request int) {
	f.insert(request+1, "\troute(SIPWAKE_PARK);", "\tif (!is_method(\"REGISTER\")) {", "\t\troute(SIPWAKE_STRIP);", "\t\tmsg_apply_changes();", "\t}")
}

// replies adds the routes that remove push data from replies.
func (f *file) replies() {
	strip := []string{"\troute(SIPWAKE_STRIP);", "\tmsg_apply_changes();"}
	if i := f.find(`^reply_route\s*\{`); i >= 0 {
		f.insert(i+1, strip...)
		return
	}
	f.insert(len(f.lines), append(append([]string{"", "reply_route {"}, strip...), "}")...)
}

// register makes sipwake.cfg save registrations.
func (f *file) register() {
	i := f.find(`^\s*(if\s*\(!)?save\("location"`)
	if i < 0 {
		f.missing = append(f.missing, `no save("location"): put route(SIPWAKE_REGISTER); in its place, where the user is authenticated and NAT is handled`)
		return
	}
	end := i
	if strings.Contains(f.lines[i], "{") { // if (!save()) { ... }
		for end+1 < len(f.lines) && !regexp.MustCompile(`^\s*\}`).MatchString(f.lines[end]) {
			end++
		}
	}
	if end+1 < len(f.lines) && strings.TrimSpace(f.lines[end+1]) == "exit;" {
		end++
	}
	indent := f.lines[i][:len(f.lines[i])-len(strings.TrimLeft(f.lines[i], " \t"))]
	f.edits = append(f.edits, edit{i, end - i + 1, []string{indent + "route(SIPWAKE_REGISTER);"}})
}

// call makes sipwake.cfg ring phones.
func (f *file) call() {
	i := f.find(`^\s*if\s*\(!lookup\("location"`)
	if i < 0 {
		f.missing = append(f.missing, `no lookup("location"): put route(SIPWAKE_CALL); before it, after record_route()`)
		return
	}
	var out []string
	if f.find(`^#!define\s+FLT_ACCMISSED\b`) >= 0 {
		out = append(out, "\tif (is_method(\"INVITE\")) setflag(FLT_ACCMISSED);")
	}
	f.insert(i, append(out, "\troute(SIPWAKE_CALL);")...)
}

// http calls sipwake.cfg from the event routes that the file itself defines: for HTTP
// requests, and for Kamailio's own SIP requests.
func (f *file) http() {
	if i := f.find(`^event_route\[xhttp:request\]`); i >= 0 {
		f.insert(i+1, "\tset_reply_no_connect();", "\troute(SIPWAKE_HTTP);")
	}
	if i := f.find(`^event_route\[tm:local-request\]`); i >= 0 {
		f.insert(i+1, "\troute(SIPWAKE_LOCAL_REQUEST);")
	}
}

func (f *file) apply() string {
	var b strings.Builder
	at := 0
	for _, e := range f.edits {
		for ; at < e.line; at++ {
			b.WriteString(f.lines[at])
		}
		for _, l := range e.with {
			b.WriteString(l + "\n")
		}
		at += e.n
	}
	for ; at < len(f.lines); at++ {
		b.WriteString(f.lines[at])
	}
	return b.String()
}
