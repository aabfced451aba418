package wake

import (
	"slices"
	"strings"
)

// Caller is who makes a request about users and devices. The zero Caller is the
// operator, who may see and do everything.
type Caller struct {
	Name  string // the tenant's; empty for the operator
	Scope *Scope // nil for the operator
}

// Scope is a tenant's share of all users and devices. A nil Scope is everything.
type Scope struct {
	// Domains are the users' domains, in lower case. Empty means every domain.
	Domains []string `json:"domains,omitempty"`
	// Apps are the devices' apps, as phones name them. Empty means every app.
	Apps []string `json:"apps,omitempty"`
}

// User reports whether the user may be in the scope. With Apps, only the user's
// devices with these apps are.
func (s *Scope) User(aor string) bool {
	return s == nil || len(s.Domains) == 0 || slices.Contains(s.Domains, aor[strings.LastIndexByte(aor, '@')+1:])
}

// App reports whether the app may be in the scope.
func (s *Scope) App(name string) bool {
	return s == nil || len(s.Apps) == 0 || slices.Contains(s.Apps, name)
}

// Binding reports whether the device is in the scope.
func (s *Scope) Binding(b *Binding) bool { return s.User(b.AOR) && s.App(b.Address.App) }

// Of returns the bindings that are in the scope. It reuses list's array.
func (s *Scope) Of(list []Binding) []Binding {
	if s == nil {
		return list
	}
	return slices.DeleteFunc(list, func(b Binding) bool { return !s.Binding(&b) })
}
