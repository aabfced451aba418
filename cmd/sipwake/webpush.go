package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sipwake/sipwake/push/webpush"
)

type webpushCmd struct {
	Key webpushKeyCmd `cmd:"" help:"Print the public key of each Web Push app: what its web page subscribes with (applicationServerKey)."`
}

type webpushKeyCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`
	App    string `xor:"what" help:"Only that of the app with this package."`
	New    string `xor:"what" help:"Make a key, write it into this new file, and print its public key. No configuration is read." type:"path"`
}

// Run prints one public key per line, preceded by the packages if there are several apps.
func (c *webpushKeyCmd) Run() error {
	if c.New != "" {
		return c.make()
	}
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	shown := 0
	for i := range cfg.WebPush {
		a := &cfg.WebPush[i]
		if c.App != "" && !slices.Contains(a.Packages, c.App) {
			continue
		}
		key, err := a.PublicKey()
		if err != nil {
			p := cfg.Problems()
			p.Add(fmt.Sprintf("webpush[%d]", i), err)
			return p.Err()
		}
		if shown++; c.App == "" && len(cfg.WebPush) > 1 {
			name := strings.Join(a.Packages, ",")
			if name == "" {
				name = "-"
			}
			fmt.Print(name, "  ")
		}
		fmt.Println(key)
	}
	if shown == 0 {
		return errors.New("no such Web Push app in " + c.Config)
	}
	return nil
}

func (c *webpushKeyCmd) make() error {
	text, err := webpush.NewKey()
	if err != nil {
		return err
	}
	// Subscriptions are bound to a key: never overwrite one.
	f, err := os.OpenFile(c.New, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("cannot create file: %w", err)
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		// Otherwise the next try finds a file.
		return errors.Join(fmt.Errorf("cannot write key: %w", err), os.Remove(c.New))
	}
	key, err := (&webpush.Config{VAPIDKeyFile: c.New}).PublicKey()
	if err != nil {
		return err
	}
	fmt.Println(key)
	return nil
}
