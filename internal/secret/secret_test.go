package secret_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sipwake/sipwake/internal/secret"
)

// Nothing that prints a value may show what is in it.
func TestNeverPrinted(t *testing.T) {
	const value = "hunter2hunter2"
	type holder struct {
		Text   secret.Text
		Token  secret.Token
		Texts  []secret.Text
		Tokens map[string]*secret.Token
	}
	token := secret.NewToken(value)
	h := holder{secret.NewText(value), token, []secret.Text{secret.NewText(value)}, map[string]*secret.Token{"x": &token}}

	f := func(how, printed string) {
		t.Helper()
		if printed == "" || strings.Contains(printed, value) {
			t.Errorf("%s prints %s", how, printed)
		}
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		f(verb, fmt.Sprintf(verb, h))
		f(verb, fmt.Sprintf(verb, h.Text)+fmt.Sprintf(verb, h.Token)+fmt.Sprintf(verb, &h.Token))
	}
	j, err := json.Marshal(h)
	f("JSON", fmt.Sprint(string(j), err))
	y, err := yaml.Marshal(h)
	f("YAML", fmt.Sprint(string(y), err))
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "holder", h, "text", h.Text, "token", h.Token)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "holder", h, "text", h.Text, "token", h.Token)
	f("slog", log.String())
}

func TestTextIsRead(t *testing.T) {
	f := func(how string, got secret.Text, err error) {
		t.Helper()
		if err != nil || got.Reveal() != "p w" {
			t.Errorf("%s gives %q, %v", how, got.Reveal(), err)
		}
	}
	var h struct {
		Text secret.Text `json:"text" yaml:"text"`
	}
	err := json.Unmarshal([]byte(`{"text":"p w"}`), &h)
	f("JSON", h.Text, err)
	h.Text = secret.Text{}
	err = yaml.Unmarshal([]byte("text: p w\n"), &h)
	f("YAML", h.Text, err)

	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("p w\r\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := secret.ReadText(path)
	f("a file", got, err)
	if err := os.WriteFile(path, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.ReadText(path); err == nil {
		t.Error("an empty file is no error")
	}
	if !got.Equal("p w") || got.Equal("p") || got.Empty() || !(secret.Text{}).Empty() {
		t.Error("Equal or Empty is wrong")
	}
}

// What a token prints tells it apart in a log, and is no hash that others can compute.
func TestTokenPrintsNoHash(t *testing.T) {
	a, b := secret.NewToken("token-of-anna"), secret.NewToken("token-of-bob")
	if a.String() != secret.NewToken("token-of-anna").String() || a.String() == b.String() {
		t.Errorf("%s, %s", a, b)
	}
	if sum := sha256.Sum256([]byte("token-of-anna")); a.String() == fmt.Sprintf("token:%x", sum[:4]) {
		t.Errorf("%s is a hash of it alone", a)
	}
}
