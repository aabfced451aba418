package demo

import (
	"context"
	"fmt"
	"strings"

	"github.com/sipwake/sipwake/internal/lab/stack"
	"github.com/sipwake/sipwake/kamailio/cfg"
)

// lines are inserted into a script after others.
type lines struct{ behind, what string }

// webSocketLines returns the lines that add WebSocket (RFC 7118) to kamailio.cfg. A browser
// has no address. Requests after the answer find its connection by the GRUU (RFC 5627) that
// Kamailio has given it, or by an alias in its Contact.
func webSocketLines() []lines {
	return []lines{{`loadmodule "nathelper.so"
`, `loadmodule "xhttp.so"
loadmodule "websocket.so"
#!define SIPWAKE_HAVE_XHTTP
#!define SIPWAKE_OWN_XHTTP
`}, {`include_file "sipwake.cfg"
`, `
event_route[xhttp:request] {
	route(SIPWAKE_HTTP);
	if ($hdr(Upgrade) =~ "websocket") {
		ws_handle_handshake();
		exit;
	}
	xhttp_reply("404", "Not Found", "", "");
}
`}, {`reply_route {
	route(SIPWAKE_STRIP);
	msg_apply_changes();
`, `	if (nat_uac_test("64")) set_contact_alias();
	# else Kamailio drops the answer, and its connection, by what the last test said
	return 1;
`}, {`	if (!is_method("REGISTER")) {
		route(SIPWAKE_STRIP);
		msg_apply_changes();
`, `		if (nat_uac_test("64")) set_contact_alias();
`}, {`		if (loose_route()) {
`, `			handle_ruri_alias();
`}}
}

// webSocketScript returns kamailio.cfg with WebSocket.
func webSocketScript() (string, error) {
	own, err := cfg.Files.ReadFile("kamailio.cfg")
	if err != nil {
		return "", err
	}
	script := string(own)
	for _, l := range webSocketLines() {
		if n := strings.Count(script, l.behind); n != 1 {
			return "", fmt.Errorf("kamailio.cfg has %d times, not once: %q", n, l.behind)
		}
		script = strings.Replace(script, l.behind, l.behind+l.what, 1)
	}
	return script, nil
}

// webSocketKamailio returns a Kamailio that browsers can reach. If it has no module
// websocket, it runs kamailio.cfg unchanged and calls lacks.
func webSocketKamailio(lacks func()) proxyKind {
	return proxyKind{node: "kamailio", title: "Kamailio", start: func(ctx context.Context, rpc string, port int) (proxy, error) {
		script, err := webSocketScript()
		if err != nil {
			return nil, err
		}
		c := stack.KamailioConfig{Node: demoNode, URL: rpc, SIPPort: port, Secret: demoSecret, Hold: demoHold, Script: script}
		k, err := stack.StartKamailio(ctx, c)
		if err != nil && strings.Contains(err.Error(), "module <websocket>") {
			lacks()
			c.Script = ""
			k, err = stack.StartKamailio(ctx, c)
		}
		if err != nil {
			return nil, err // not k: a nil *Kamailio in the interface is not nil
		}
		return k, nil
	}}
}
