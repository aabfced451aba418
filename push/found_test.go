package push_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/push"
)

func TestFound(t *testing.T) {
	fcm := func(packages ...string) push.App { return push.App{Provider: pnparam.FCM, Packages: packages} }
	configured := []push.App{apnsApp(pnparam.Production, nil, "com.a"), fcm("project", "com.x")}
	var got []string
	for _, a := range push.Found(configured, []push.App{
		apnsApp(pnparam.Sandbox, nil, "com.a"), // another environment of a configured app
		apnsApp(pnparam.Production, nil, "com.b"), apnsApp(pnparam.Sandbox, nil, "com.b"),
		fcm("project", "com.x"), fcm("project", "com.y"), fcm("other", "com.p"), fcm("other", "com.q"), fcm("com.a"),
	})[2:] {
		got = append(got, fmt.Sprintf("%s %v %s", a.Provider, a.Packages, a.Environment))
	}
	want := []string{
		"apns [com.b] production", "apns [com.b] sandbox",
		"fcm [com.y] ", "fcm [other com.p] ", "fcm [com.q] ", "fcm [com.a] ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWarnings(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	app := func(name string, left time.Duration) push.App {
		a := apnsApp(pnparam.Production, nil, name)
		a.CredentialExpiry = now.Add(left)
		return a
	}
	sandbox := app("c", 12*day+time.Hour)
	sandbox.Environment = pnparam.Sandbox
	got := push.Warnings([]push.App{
		app("a", 31*day), apnsApp("", nil, "b"), app("c", 12*day+time.Hour), sandbox,
		app("d", day), app("e", time.Hour), app("f", -time.Hour),
	}, now)
	want := []string{
		`apns app "c": the certificate expires in 12 days, on 2026-05-13`,
		`apns app "d": the certificate expires in 1 day, on 2026-05-02`,
		`apns app "e": the certificate expires within a day, on 2026-05-01`,
		`apns app "f": the certificate expired on 2026-05-01`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWarningsHaveDoubts(t *testing.T) {
	doubt := push.App{Provider: pnparam.APNs, Packages: []string{"com.a"}, Doubts: []string{"x is odd", "y is odd"}}
	got := push.Warnings([]push.App{doubt, doubt}, time.Now())
	if want := []string{`apns app "com.a": x is odd`, `apns app "com.a": y is odd`}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
