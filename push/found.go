package push

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Found adds apps that were found, in a directory of credentials, to those that
// were configured. A package that is configured is not taken from what was found,
// in any environment, and a package that was found twice is the first's; an app
// that has none left is not added. The same goes for Any.
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

// Settle decides which app serves devices that name no environment where two are
// ready to: that of production. The error is an *AppError, if two apps claim the
// same addresses otherwise.
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

// expirySoon is when an administrator wants to know that a credential ends.
const expirySoon = 30 * 24 * time.Hour

// Warnings says in plain English what an administrator should look after in apps
// that can be used, each thing once: their Doubts, and certificates that have ended
// or soon will.
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
			if !slices.Contains(list, text) { // an app has it once for each environment
				list = append(list, text)
			}
		}
	}
	return list
}

// Expiry says that a credential or certificate has ended or soon will, or nothing.
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
