package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

type showCmd struct {
	AOR  string `arg:"" help:"User: user@domain, or a part of the name."`
	JSON bool   `name:"json" help:"Print a JSON object for each user, one a line."`
}

// shownUser is a user in the result of binding.list.
type shownUser struct {
	AOR      string            `json:"aor"`
	Bindings []json.RawMessage `json:"bindings"`
	Removed  []shownRemoval    `json:"removed,omitempty"`
}

// maxShown is how many users a part of a name may match.
const maxShown = 20

// Run prints a block for each device, and a line for each recently removed one. No binding
// is an error.
func (c *showCmd) Run(cl *client) error {
	whole := strings.Contains(c.AOR, "@") && !strings.HasPrefix(c.AOR, "@")
	users := []string{c.AOR}
	if !whole {
		var err error
		if users, err = likeUsers(cl, func(aor string) bool { return strings.Contains(aor, strings.ToLower(c.AOR)) }); err != nil {
			return err
		}
	}
	if len(users) > maxShown {
		return fmt.Errorf("%d users or more have %q in their names, such as %s", len(users), c.AOR, strings.Join(users[:maxShown/4], ", "))
	}
	found := false
	for _, aor := range users {
		var u shownUser
		if err := cl.call(context.Background(), "binding.list", map[string]any{"aor": aor}, &u); err != nil {
			return err
		}
		u.AOR = strings.ToLower(aor)
		found = found || len(u.Bindings) > 0
		if err := u.print(c.JSON); err != nil {
			return err
		}
	}
	if !found {
		return c.nobody(cl)
	}
	return nil
}

// nobody suggests users with similar names, first those whose names begin with this one.
func (c *showCmd) nobody(cl *client) error {
	user, _, _ := strings.Cut(strings.ToLower(c.AOR), "@")
	if len(user) < 2 {
		return errNoBinding
	}
	for _, is := range []func(name string) bool{
		func(name string) bool { return strings.HasPrefix(name, user) },
		func(name string) bool { return strings.Contains(name, user) || strings.Contains(user, name) },
		func(name string) bool { return strings.HasPrefix(name, user[:len(user)-1]) },
	} {
		found, err := likeUsers(cl, func(aor string) bool {
			name, _, _ := strings.Cut(aor, "@")
			return name != "" && is(name)
		})
		if err != nil {
			return errNoBinding
		}
		if len(found) > 0 {
			return fmt.Errorf("%w; did you mean %s?", errNoBinding, strings.Join(found[:min(len(found), 3)], " or "))
		}
	}
	return errNoBinding
}

// likeUsers returns users that have a binding and for whom is returns true, the shortest
// first: all, or only the first ones if there are many more than maxShown.
func likeUsers(cl *client, is func(aor string) bool) (found []string, err error) {
	tidy := func() {
		slices.SortFunc(found, func(a, b string) int { return cmp.Or(len(a)-len(b), strings.Compare(a, b)) })
		found = slices.Compact(found)
		found = found[:min(len(found), 2*maxShown)]
	}
	err = pages(cl, "binding.list", map[string]any{"all": true}, "looked at", func(b shownBinding) error {
		if is(b.AOR) {
			found = append(found, b.AOR)
		}
		if len(found) > 8*maxShown {
			tidy()
		}
		return nil
	})
	tidy()
	return found, err
}

func (u *shownUser) print(asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(os.Stdout).Encode(u); err != nil {
			return fmt.Errorf("cannot print: %w", err)
		}
		return nil
	}
	for _, raw := range u.Bindings {
		var b shownBinding
		if err := json.Unmarshal(raw, &b); err != nil {
			return fmt.Errorf("cannot read the answer: %w", err)
		}
		b.print()
	}
	for _, r := range u.Removed {
		fmt.Printf("removed %s %s %s %s (device %s)\n", clock(r.At), r.Reason, r.Provider, r.App, r.Device)
	}
	return nil
}

func (b *shownBinding) print() {
	fmt.Printf("%s  %s\n", b.AOR, b.Device)
	for _, f := range [][2]string{{"provider", b.Provider}, {"app", b.App}, {"environment", b.Environment}, {"node", b.Node},
		{"source", b.Source}, {"user agent", b.UserAgent}, {"created", clock(b.Created)}, {"registered", clock(b.Registered)}} {
		if f[1] != "" {
			fmt.Printf("  %-12s %s\n", f[0], f[1])
		}
	}
	expires := "not registered"
	if !b.Expires.IsZero() {
		expires = clock(b.Expires)
	}
	fmt.Printf("  %-12s %s\n", "expires", expires)
	for _, t := range b.Tokens {
		fmt.Printf("  %-12s %s\n", "token", t.Token+" "+t.Service)
	}
}
