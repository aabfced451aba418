package wake

import (
	"slices"
	"strings"
)

// Caller is who asks for something of users and devices. The zero Caller is the
// operator, who may see and do everything.
type Caller struct {
	Name  string // of the tenant; empty for the operator
	Scope *Scope // nil for the operator
}

// Scope is the part of all users and devices that a tenant has. A nil Scope is all.
type Scope struct {
	// Domains are those of the users, in lower case. None: of every domain.
	Domains []string `json:"domains,omitempty"`
	// Apps are those of the devices, as phones name them. None: every app.
	Apps []string `json:"apps,omitempty"`
}

// User reports whether the user may be in the scope: with Apps it has only the
// devices of these.
func (s *Scope) User(aor string) bool {
	return s == nil || len(s.Domains) == 0 || slices.Contains(s.Domains, aor[strings.LastIndexByte(aor, '@')+1:])
}

// App reports whether the app may be in the scope.
func (s *Scope) App(name string) bool {
	return s == nil || len(s.Apps) == 0 || slices.Contains(s.Apps, name)
}

// Binding reports whether the device is in the scope.
func (s *Scope) Binding(b *Binding) bool { return s.User(b.AOR) && s.App(b.Address.App) }

// Of returns the bindings that are in the scope, in the place of the others.
func (s *Scope) Of(list []Binding) []Binding {
	if s == nil {
		return list
	}
	return slices.DeleteFunc(list, func(b Binding) bool { return !s.Binding(&b) })
}
