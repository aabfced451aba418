package push

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Found adds the apps found in a directory of credentials to the configured ones.
// Configured packages are never taken from the found apps, in any environment. A
// package found twice goes to the first app. An app with no packages left is not
// added. The same applies to Any.
func Found(apps, found []App) []App {
	type name struct {
		provider pnparam.Provider
		pkg      string
	}
	configured := make(map[name]bool)
	for i := range apps {
		configured[name{apps[i].Provider, anyPackage}] = configured[name{apps[i].Provider, anyPackage}] || apps[i].Any
		for _, p := range apps[i].Packages {
			configured[name{apps[i].Provider, p}] = true
		}
	}
	taken := make(map[appKey]bool)
	for _, a := range found {
		a.Packages = slices.DeleteFunc(slices.Clone(a.Packages), func(p string) bool {
			key := appKey{a.Provider, p, a.Environment}
			gone := taken[key] || configured[name{a.Provider, p}]
			taken[key] = true
			return gone
		})
		a.Any = a.Any && !configured[name{a.Provider, anyPackage}]
		if len(a.Packages) > 0 {
			apps = append(apps, a)
		}
	}
	return apps
}

// Settle decides which app serves devices that name no environment, if two apps
// would: the production one. If two apps claim the same addresses in another way, the
// error is an *AppError.
func Settle(apps []App) ([]App, error) {
	apps = slices.Clone(apps)
	type name struct {
		provider pnparam.Provider
		pkg      string
	}
	production := make(map[name]bool)
	for i := range apps {
		a := &apps[i]
		if a.Default && a.Environment == pnparam.Production {
			production[name{a.Provider, a.name()}] = true
		}
	}
	for i := range apps {
		a := &apps[i]
		if a.Environment == pnparam.Sandbox && production[name{a.Provider, a.name()}] {
			a.Default = false
		}
	}
	return apps, checkApps(apps)
}

// expirySoon is how long before its expiry an administrator is warned of a
// credential.
const expirySoon = 30 * 24 * time.Hour

// Warnings lists in plain English what an administrator should check in apps that are
// usable, each thing once: their Doubts, and certificates that have expired or soon
// will.
func Warnings(apps []App, now time.Time) []string {
	var list []string
	for i := range apps {
		a := &apps[i]
		doubts := a.Doubts
		if text := Expiry(a.CredentialExpiry, now); text != "" {
			doubts = append(slices.Clone(doubts), "the certificate "+text)
		}
		for _, doubt := range doubts {
			text := fmt.Sprintf("%s app %q: %s", a.Provider, cmp.Or(a.name(), "-"), doubt)
			if !slices.Contains(list, text) { // an app reports it once per environment
				list = append(list, text)
			}
		}
	}
	return list
}

// Expiry says that a credential or certificate has expired or soon will, or returns
// "".
func Expiry(ends, now time.Time) string {
	left := ends.Sub(now)
	if ends.IsZero() || left > expirySoon {
		return ""
	}
	day := ends.UTC().Format(time.DateOnly)
	switch days := int(left / (24 * time.Hour)); {
	case left <= 0:
		return "expired on " + day
	case days == 0:
		return "expires within a day, on " + day
	case days == 1:
		return "expires in 1 day, on " + day
	default:
		return fmt.Sprintf("expires in %d days, on %s", days, day)
	}
}
