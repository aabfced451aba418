package stack

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// AsteriskConfig configures one Asterisk, without push.
type AsteriskConfig struct {
	// Address is the IPv4 address to listen on, with UDP. Default 127.0.0.1.
	Address string
	// Port is for UDP. 0 picks a free one.
	Port int
	// Users are its extensions, with their passwords: name or number.
	Users map[string]string
}

// Asterisk is a running Asterisk.
type Asterisk struct {
	*Process
	address string
}

// SIPAddress returns host:port for SIP over UDP.
func (a *Asterisk) SIPAddress() string { return a.address }

// StartAsterisk starts one and returns when it answers SIP. The error wraps ErrMissing
// if Asterisk has not been set up.
func StartAsterisk(ctx context.Context, c AsteriskConfig) (*Asterisk, error) {
	path, err := Find("asterisk")
	if err != nil {
		return nil, fmt.Errorf("%w, and tests/setup/asterisk.sh", err)
	}
	if c.Address == "" {
		c.Address = "127.0.0.1"
	}
	if c.Port == 0 {
		if c.Port, err = FreePort(c.Address); err != nil {
			return nil, err
		}
	}
	dir, _, err := workDir("", "asterisk")
	if err != nil {
		return nil, fmt.Errorf("cannot start asterisk: %w", err)
	}
	a := &Asterisk{address: net.JoinHostPort(c.Address, strconv.Itoa(c.Port))}
	if err = c.write(dir, a.address); err == nil {
		a.Process, err = start(command{name: "asterisk", path: path, args: []string{"-C", filepath.Join(dir, "asterisk.conf"), "-f", "-n"},
			dir: dir, remove: true, orphan: syscall.SIGKILL})
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return nil, fmt.Errorf("cannot start asterisk: %w", err)
	}
	if err := a.waitReady(ctx, func(ctx context.Context) error { return pingSIP(ctx, a.address) }); err != nil {
		return nil, err
	}
	return a, nil
}

// write writes the configuration.
func (c *AsteriskConfig) write(dir, bind string) error {
	files := map[string]string{"asterisk.conf": asteriskDirs(dir), "modules.conf": asteriskModules, "logger.conf": "[logfiles]\nconsole => notice,warning,error\n",
		"pjsip.conf": strings.ReplaceAll(asteriskPJSIP, "BIND", bind), "extensions.conf": asteriskExtensions}
	for _, user := range slices.Sorted(maps.Keys(c.Users)) {
		files["pjsip.conf"] += strings.NewReplacer("USER", user, "PASSWORD", c.Users[user]).Replace(asteriskUser)
	}
	for _, sub := range []string{"db", "keys", "spool", "run", "log"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// asteriskDirs returns asterisk.conf. The host's Asterisk knows where its modules are; one
// in the cache needs their directory.
func asteriskDirs(dir string) string {
	text := "[directories]\nastetcdir => DIR\nastdbdir => DIR/db\nastkeydir => DIR/keys\nastspooldir => DIR/spool\nastrundir => DIR/run\nastlogdir => DIR/log\n"
	if cache, err := Cache(); err == nil {
		if found, _ := filepath.Glob(filepath.Join(cache, "asterisk/usr/lib/*/asterisk/modules")); len(found) > 0 {
			share := filepath.Join(cache, "asterisk/usr/share/asterisk")
			text += "astmoddir => " + found[0] + "\nastdatadir => " + share + "\nastvarlibdir => " + share + "\n"
		}
	}
	return strings.ReplaceAll(text, "DIR", dir)
}

// Only the modules for calls and messages: nothing else may listen or connect.
const asteriskModules = `[modules]
autoload=no
load=res_sorcery_config.so
load=res_sorcery_memory.so
load=res_sorcery_astdb.so
load=res_timing_timerfd.so
load=res_pjproject.so
load=res_pjsip.so
load=res_pjsip_pubsub.so
load=res_pjsip_session.so
load=res_pjsip_registrar.so
load=res_pjsip_authenticator_digest.so
load=res_pjsip_endpoint_identifier_user.so
load=res_pjsip_caller_id.so
load=res_pjsip_sdp_rtp.so
load=res_pjsip_messaging.so
load=res_pjsip_dlg_options.so
load=res_rtp_asterisk.so
load=codec_ulaw.so
load=chan_pjsip.so
load=func_pjsip_endpoint.so
load=func_callerid.so
load=app_dial.so
load=bridge_simple.so
load=bridge_native_rtp.so
load=pbx_config.so
`

const asteriskPJSIP = `[global]
type=global
user_agent=PBX
[udp]
type=transport
protocol=udp
bind=BIND
[endpoint](!)
type=endpoint
context=internal
message_context=messages
disallow=all
allow=ulaw
direct_media=no
rewrite_contact=no
`

// As in docs/GATEWAY.md.
const asteriskUser = `[USER](endpoint)
aors=USER
auth=USER
[USER]
type=auth
auth_type=userpass
username=USER
password=PASSWORD
[USER]
type=aor
max_contacts=1
remove_existing=yes
maximum_expiration=86400
`

const asteriskExtensions = `[internal]
exten => _X!,1,Dial(PJSIP/${EXTEN},45)
 same => n,Hangup(${HANGUPCAUSE})
exten => _[a-z]!,1,Dial(PJSIP/${EXTEN},45)
 same => n,Hangup(${HANGUPCAUSE})
[messages]
exten => _X!,1,MessageSend(pjsip:${EXTEN},${MESSAGE(from)})
exten => _[a-z]!,1,MessageSend(pjsip:${EXTEN},${MESSAGE(from)})
`
