package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// baresip is a running baresip, controlled through its module ctrl_tcp.
type baresip struct {
	*stack.Process
	conn   net.Conn
	events chan baresipEvent
}

// baresipEvent is ctrl_tcp's report on a call or a command.
type baresipEvent struct {
	Type, Param string
	Response    bool
	OK          bool
	Data        string
}

// baresipConfig is baresip without a microphone and a loudspeaker.
const baresipConfig = `poll_method epoll
sip_listen 127.0.0.1:%d
net_interface 127.0.0.1
audio_player aubridge,nil
audio_source aubridge,nil
audio_alert aubridge,nil
rtp_ports 20000-29999
module_path %s
module g711.so
module aubridge.so
module_app account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen %s
`

// startBaresip starts baresip with an account that calls over TCP.
func startBaresip(ctx context.Context, s *stage, path, modules string) (*baresip, error) {
	sip, err := stack.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	port, err := stack.FreePort("127.0.0.1")
	if err != nil {
		return nil, err
	}
	control := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	dir := filepath.Join(s.dir, "baresip")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	account := fmt.Sprintf("<sip:alice@%s;transport=tcp>;regint=0;outbound=\"sip:%s;transport=tcp\"\n", demoDomain, s.proxy.SIPAddress())
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "config"), fmt.Appendf(nil, baresipConfig, sip, modules, control), 0o600),
		os.WriteFile(filepath.Join(dir, "accounts"), []byte(account), 0o600),
		os.WriteFile(filepath.Join(dir, "contacts"), nil, 0o600))
	if err != nil {
		return nil, err
	}
	b := &baresip{events: make(chan baresipEvent, 256)}
	b.Process, err = stack.StartProgram(ctx, "baresip", path, s.dir, []string{"-f", dir}, func(ctx context.Context) (err error) {
		b.conn, err = new(net.Dialer).DialContext(ctx, "tcp", control)
		return err
	})
	if err != nil {
		return nil, err
	}
	go b.read()
	return b, nil
}

// read takes netstrings: LENGTH:JSON,
func (b *baresip) read() {
	defer close(b.events)
	r := bufio.NewReader(b.conn)
	for {
		text, err := r.ReadString(':')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(text, ":"))
		if err != nil || n < 0 || n > 1<<20 {
			return
		}
		body := make([]byte, n+1)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		var e baresipEvent
		if json.Unmarshal(body[:n], &e) == nil {
			b.events <- e
		}
	}
}

func (b *baresip) command(name, params string) error {
	text, err := json.Marshal(map[string]string{"command": name, "params": params})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(b.conn, "%d:%s,", len(text), text)
	return err
}

// wait waits for an event of the call. It is an error if the call ends first.
func (b *baresip) wait(ctx context.Context, want string) error {
	for {
		select {
		case e, ok := <-b.events:
			switch {
			case !ok:
				return fmt.Errorf("baresip ended instead of %s", want)
			case e.Type == want:
				return nil
			case e.Type == "CALL_CLOSED" || e.Response && !e.OK:
				return fmt.Errorf("baresip: %s %s%s, not %s", e.Type, e.Param, e.Data, want)
			}
		case <-ctx.Done():
			return fmt.Errorf("baresip: no %s", want)
		}
	}
}

func (b *baresip) dial(ctx context.Context, user string) error {
	if err := b.command("dial", "sip:"+user+"@"+demoDomain); err != nil {
		return err
	}
	return b.wait(ctx, "CALL_ESTABLISHED")
}

func (b *baresip) hangUp(ctx context.Context) error {
	if err := b.command("hangup", ""); err != nil {
		return err
	}
	return b.wait(ctx, "CALL_CLOSED")
}

func (b *baresip) hungUp(ctx context.Context) error { return b.wait(ctx, "CALL_CLOSED") }

func (b *baresip) close() {
	_ = b.conn.Close()
	b.Stop()
}
