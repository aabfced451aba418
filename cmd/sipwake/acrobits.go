package main

import (
	"errors"
	"fmt"

	"github.com/sipwake/sipwake/internal/wake"
)

type acrobitsCmd struct {
	Key acrobitsKeyCmd `cmd:"" help:"Print what the app of a user must show when it reports its tokens, for the settings of his account."`
}

type acrobitsKeyCmd struct {
	Config string   `short:"c" default:"${config}" help:"Configuration file (${default})." type:"path"`
	Users  []string `arg:"" help:"Users, as user@domain or, with acrobits.domain, user."`
}

// Run prints a line for each user: the user's address, a tab and the key.
func (c *acrobitsKeyCmd) Run() error {
	cfg, err := loadConfig(c.Config)
	if err != nil {
		return err
	}
	if !cfg.Acrobits.On() {
		return errors.New("acrobits.listen is not set")
	}
	reports, err := cfg.Acrobits.Reports()
	if err != nil {
		return fmt.Errorf("acrobits.%w", err)
	}
	for _, user := range c.Users {
		aor, err := wake.CleanAOR(reports.AOR(user))
		if err != nil {
			return fmt.Errorf("%q: %w", user, err)
		}
		fmt.Printf("%s\t%s\n", aor, reports.Key(aor).Reveal())
	}
	return nil
}
