package fcm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/fcmsim"
)

// A file is a service account, with all that makes an app, or an error that quotes
// nothing of it.
func FuzzAccount(f *testing.F) {
	sim, err := fcmsim.Start(fcmsim.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer sim.Close()
	good, err := sim.MakeAccount(f.TempDir(), "example")
	if err != nil {
		f.Fatal(err)
	}
	text, err := os.ReadFile(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, contents []byte) {
		file := filepath.Join(t.TempDir(), "account.json")
		if err := os.WriteFile(file, contents, 0o600); err != nil {
			t.Fatal(err)
		}
		c := &Config{CredentialsFile: file}
		c.SetDefaults()
		apps, err := c.Apps(nil)
		if err == nil {
			if len(apps) != 1 || len(apps[0].Packages) != 1 || !name(apps[0].Packages[0]) {
				t.Fatalf("%+v", apps)
			}
			return
		}
		said := strings.ReplaceAll(err.Error(), file, "")
		for _, word := range strings.FieldsFunc(string(contents), func(r rune) bool { return strings.ContainsRune(`"{}:,\ `+"\r\n\t", r) }) {
			if len(word) >= 16 && word != "service_account" && strings.Contains(said, word) {
				t.Fatalf("%s quotes the file", said)
			}
		}
	})
}
