package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/app"
	"github.com/sipwake/sipwake/internal/config"
	"github.com/sipwake/sipwake/internal/lab/apnssim"
)

// Each payload of each app is printed under a title, as JSON.
func TestTemplates(t *testing.T) {
	sim, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	dir := t.TempDir()
	key, err := sim.MakeKey(dir, "TEAM123456", "KEY1234567")
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	chat := write("chat.json", `{"who": "{FROMDISPLAYNAME}"}`)
	file := write("sipwake.yml", "apns: [{bundle_id: com.a, team_id: TEAM123456, key_id: KEY1234567, key_file: "+key+
		", templates: {chat: "+chat+"}}]")
	cfg, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	apps, err := app.Apps(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, hostile := range []bool{false, true} {
		cmd := templatesCmd{Hostile: hostile}
		var out bytes.Buffer
		if err := cmd.print(&out, &apps[0]); err != nil {
			t.Fatal(err)
		}
		blocks := strings.Split(strings.TrimSpace(out.String()), "\n\n")
		if len(blocks) != 6 {
			t.Errorf("%d payloads:\n%s", len(blocks), &out)
		}
		for _, b := range blocks {
			title, payload, _ := strings.Cut(b, "\n")
			if !strings.HasPrefix(title, "# apns com.a production: ") || !json.Valid([]byte(payload)) {
				t.Errorf("block %s", b)
			}
		}
		if hostile {
			continue
		}
		want := "# apns com.a production: chat (" + chat + ", 23 bytes; priority 10, push type alert, kept for 30s)\n{\n  \"who\": \"Alice Example\"\n}"
		if blocks[2] != want {
			t.Errorf("got %s\nwant %s", blocks[2], want)
		}
		// Each kind has what its pushes have: a call no text of its own, a refresh no caller.
		for i, texts := range [][]string{
			{"call (", "priority 10, push type alert, kept for 30s", `"title": "Incoming call"`, `"body": "Incoming call from Alice Example"`, `"media": "video"`},
			{"call voip (", "priority 10, push type voip, kept for 30s", `"nmsg": "Incoming call from Alice Example"`},
			nil,
			{"cancel (", "priority 5, push type background", `"nmsg": ""`, `"nfrom": "alice"`},
			{"custom (", `"title": "News"`, `"body": "Lunch at noon?"`, `"key": "value"`, `"ncallid": ""`},
			{"refresh (", `"nfrom": ""`, `"ntousr": "bob"`},
		} {
			for _, text := range texts {
				if !strings.Contains(blocks[i], text) {
					t.Errorf("no %s in %s", text, blocks[i])
				}
			}
		}
	}
}
