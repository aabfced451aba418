// Package leak proves that no secret of a test run appears in sipwake's output. Tests and
// simulators record every secret (Secret) and all output (Record, Copy) in the directory
// that an environment variable names. Afterwards Check searches all output for all
// secrets. Without the variable nothing is recorded.
package leak

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Dir is the environment variable with the directory.
const Dir = "SIPWAKE_TEST_LOGS"

const (
	ledger = "ledger" // in the directory: secrets in base64, one a line, a file a process
	said   = "said"   // in the directory: the recorded output
)

// Secret records secrets: push tokens, passwords, keys. Of a text with PEM blocks it
// records each line of private keys, and of an https URL the last part of its path,
// because the host is no secret.
func Secret(values ...string) {
	dir := os.Getenv(Dir)
	if dir == "" {
		return
	}
	var lines strings.Builder
	for _, v := range values {
		for _, s := range split(v) {
			lines.WriteString(base64.StdEncoding.EncodeToString([]byte(s)) + "\n")
		}
	}
	name := filepath.Join(dir, fmt.Sprintf("%s-%d", ledger, os.Getpid()))
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(lines.String())
		_ = f.Close()
	}
	must(err)
}

// Tokens records possible push tokens. It ignores values with less than 12 bytes, or with
// more than sipwake ever stores.
func Tokens(values ...string) {
	for _, v := range values {
		if len(v) >= part && len(v) <= maxToken {
			Secret(v)
		}
	}
}

const maxToken = 4096

// pushValues matches push tokens in a body sent to sipwake: in Contact parameters, in
// X-MPUSH, and in JSON members.
var pushValues = regexp.MustCompile(`(?i)(?:pn-prid|pn-tok|push-token-id|device-uid)=\\*"?([^;>,\\" ]+)|` +
	`"X-MPUSH":"[^"]*:([^":]+)"|"(?:token|p256dh|auth)":"([^"]+)"`)

// Body records the push tokens in a JSON-RPC request.
func Body(body string) {
	if os.Getenv(Dir) == "" {
		return
	}
	for _, m := range pushValues.FindAllStringSubmatch(body, -1) {
		v := m[1] + m[2] + m[3]
		if u, err := url.PathUnescape(v); err == nil {
			v = u
		}
		if strings.HasPrefix(v, "https://") {
			Tokens(v)
			continue
		}
		for t := range strings.SplitSeq(v, "&") { // TOKEN:voip&TOKEN:remote
			t = strings.TrimSuffix(strings.TrimSuffix(t, ":voip"), ":remote")
			Tokens(t)
		}
	}
}

func split(v string) []string {
	v = strings.TrimRight(v, "\r\n")
	if rest, ok := strings.CutPrefix(v, "https://"); ok {
		return []string{rest[strings.LastIndexByte(rest, '/')+1:]}
	}
	if !strings.Contains(v, "-----BEGIN ") {
		return []string{v}
	}
	var secrets []string
	for rest := []byte(v); ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return secrets
		}
		if !strings.HasSuffix(b.Type, "PRIVATE KEY") {
			continue
		}
		for line := range strings.Lines(string(pem.EncodeToMemory(b))) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "-----") && len(line) >= minSecret {
				secrets = append(secrets, line)
			}
		}
	}
}

// Record returns a writer that records output. The caller must close it. Whole lines stay
// whole, even if several goroutines write.
func Record(name string) io.WriteCloser {
	dir := os.Getenv(Dir)
	if dir == "" {
		return discard{}
	}
	dir = filepath.Join(dir, said)
	must(os.MkdirAll(dir, 0o700))
	f, err := os.CreateTemp(dir, name+"-*")
	must(err)
	return f
}

// Copy records a file, usually a log. A missing file counts as empty.
func Copy(name, path string) {
	if os.Getenv(Dir) == "" {
		return
	}
	in, err := os.Open(path)
	if os.IsNotExist(err) {
		return
	}
	must(err)
	defer in.Close()
	out := Record(name)
	_, err = io.Copy(out, in)
	must(err)
	must(out.Close())
}

// must panics on an error, because an incomplete record proves nothing.
func must(err error) {
	if err != nil {
		panic("leak: cannot keep what was said: " + err.Error())
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Close() error                { return nil }
