package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A key is made in a new file for its owner alone, and its public half printed, as by the
// configuration that names the file; no key is written over.
func TestWebPushKey(t *testing.T) {
	dir := t.TempDir()
	make := func(name string) string {
		t.Helper()
		key, stderr, status := sipwake(t, dir, "webpush", "key", "--new", name)
		if status != 0 || stderr != "" || len(strings.TrimSpace(key)) != 87 {
			t.Fatalf("status %d: %s%s", status, key, stderr)
		}
		return key
	}
	a, b := make("a.pem"), make("b.pem")
	text, err := os.ReadFile(filepath.Join(dir, "a.pem"))
	if st, statErr := os.Stat(filepath.Join(dir, "a.pem")); err != nil || statErr != nil || st.Mode().Perm() != 0o600 || a == b {
		t.Fatal(err, statErr, st.Mode())
	}
	if _, stderr, status := sipwake(t, dir, "webpush", "key", "--new", "a.pem"); status != 1 || !strings.Contains(stderr, "cannot create file") {
		t.Errorf("over an old one: status %d: %s", status, stderr)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "a.pem")); err != nil || string(again) != string(text) {
		t.Error("the key has changed", err)
	}

	f := func(config, want, wantErr string, args ...string) {
		t.Helper()
		write(t, dir, "sipwake.yml", []byte(config))
		stdout, stderr, status := sipwake(t, dir, append([]string{"webpush", "key", "-c", "sipwake.yml"}, args...)...)
		if stdout != want || !strings.Contains(stderr, wantErr) || (status == 0) != (wantErr == "") {
			t.Errorf("%s %v: status %d\n%s%s", config, args, status, stdout, stderr)
		}
		if strings.Contains(stdout+stderr, "PRIVATE") || strings.Contains(stdout+stderr, strings.Split(string(text), "\n")[1]) {
			t.Error("the private key is shown")
		}
	}
	const one = "{vapid_key_file: a.pem, subject: 'mailto:a@b.example'}"
	const two = "[{vapid_key_file: a.pem, subject: 'mailto:a@b.example', packages: [shop, web]}, {vapid_key_file: b.pem, subject: 'mailto:a@b.example'}]"
	f("webpush: "+one, a, "")
	f("webpush: "+two, "shop,web  "+a+"-  "+b, "")
	f("webpush: "+two, a, "", "--app", "web")
	f("webpush: "+two, "", "no such Web Push app in ", "--app", "typo")
	f("log: {level: info}", "", "no such Web Push app in ")
	f("webpush: "+strings.Replace(one, "a.pem", "none.pem", 1), "", "sipwake.yml:1: webpush[0].vapid_key_file: ")
}
