package rpc

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const scriptToken = "88ab-token-of-the-scripts"

// withPush is a configuration with the interface for scripts.
func withPush(t *testing.T, cfg Config) Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "scripts")
	if err := os.WriteFile(file, []byte(scriptToken), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.HTTPPush.TokenFile = file
	return withToken(t, cfg)
}

// Scripts read a line of text, whatever is wrong, and however their client writes a body.
func TestScriptsReadLines(t *testing.T) {
	s := serve(t, withPush(t, Config{RateLimit: 100}), nil)
	send := func(kind, body string) (int, string) {
		status, answer, _ := ask(t, s.dial("127.0.0.7"), fmt.Sprintf("POST /mvapireq/ HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", kind, len(body), body))
		return status, answer
	}
	part := func(name, value string) string {
		return "--b\r\nContent-Disposition: form-data; name=\"" + name + "\"\r\n\r\n" + value + "\r\n"
	}
	for kind, body := range map[string]string{
		"application/x-www-form-urlencoded": "authkey=" + scriptToken + "&apientry=none",
		"Application/JSON":                  `{"authkey":"` + scriptToken + `","apientry":"none"}`,
		"multipart/form-data; boundary=b":   part("authkey", scriptToken) + part("apientry", "none") + "--b--\r\n",
	} {
		if status, answer := send(kind, body); status != 400 || !strings.HasPrefix(answer, "ERROR: invalid params: apientry") {
			t.Errorf("%s: %d %s", kind, status, answer)
		}
	}
	for range 200 {
		if status, answer := send("application/json", "{}"); status == 503 {
			if answer != "ERROR: too many requests\n" {
				t.Errorf("too many: %q", answer)
			}
			return
		}
	}
	t.Error("no bound")
}
