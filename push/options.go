package push

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// Options configure an app's payloads and their delivery, the same way for every
// provider. They take effect on each reload.
type Options struct {
	// TemplatesDir holds payload templates that are named by their purpose:
	// call.json, or call_voip.json for the tokens of one service only.
	TemplatesDir string `yaml:"templates_dir"`
	// Templates are files under the same names, "call" or "call_voip". They take
	// precedence over TemplatesDir.
	Templates map[string]string `yaml:"templates"`
	// Sounds fill {SOUND}; default "default".
	Sounds map[Kind]string `yaml:"sounds"`
	// TTL is how long the service may store a push after it is sent; 0s means now or
	// never. The default is until the request's own deadline, which for a call is
	// the end of its hold time.
	TTL map[Kind]time.Duration `yaml:"ttl"`
	// Priority defaults to High, except for what the user need not see at once.
	Priority map[Kind]Priority `yaml:"priority"`
	// PushType is the APNs push type, also for iPhones behind FCM. A VoIP token
	// always has its own type.
	PushType map[Kind]Type `yaml:"push_type"`

	// Message is a file in MPUSH format, with one payload for every kind without a
	// template. It is also looked for in TemplatesDir.
	Message string `yaml:"-"`
}

// Own is what a template itself says about its delivery; it overrides Options. Zero
// fields say nothing.
type Own struct {
	TTL         *time.Duration
	Priority    Priority
	PushType    Type
	ContentType string
}

// Priority is the urgency of a push.
type Priority string

// The priorities.
const (
	High   Priority = "high"   // wakes a dozing device
	Normal Priority = "normal" // may wait until the device wakes
)

// Type is the apns-push-type header.
type Type string

// The push types.
const (
	TypeVoIP       Type = "voip"       // for VoIP tokens, and only for calls
	TypeAlert      Type = "alert"      // shows something
	TypeBackground Type = "background" // shows nothing; Apple requires priority Normal
)

// MaxTTL is the longest that a push may be stored: FCM's limit. Apple stores no
// longer either.
const MaxTTL = 28 * 24 * time.Hour

// Delivery says how to send one push.
type Delivery struct {
	// Expires is until when the service may store the push. Zero means not at all.
	Expires  time.Time
	Priority Priority
	PushType Type
	Sound    string
	// ContentType is the payload's type, for Web Push. Empty means plain bytes.
	ContentType string
}

// TTL returns how long the service may store the push, counted from now. Zero means
// not at all.
func (d *Delivery) TTL(now time.Time) time.Duration {
	if d.Expires.IsZero() {
		return 0
	}
	return min(max(0, d.Expires.Sub(now)), MaxTTL)
}

// ApplePriority returns the apns-priority header. Apple requires 5 for a push that
// shows nothing.
func (d *Delivery) ApplePriority() int {
	if d.Priority == Normal || d.PushType == TypeBackground {
		return 5
	}
	return 10
}

// delivery decides how to send one push, whose template says own about it.
func (o *Options) delivery(p pnparam.Provider, r *Request, own *Own, now time.Time) Delivery {
	d := Delivery{
		Sound: o.Sounds[r.Kind], Priority: cmp.Or(own.Priority, o.Priority[r.Kind]),
		PushType: cmp.Or(own.PushType, o.pushType(r.Kind)), ContentType: own.ContentType,
	}
	if r.Service == pnparam.VoIP {
		d.PushType = TypeVoIP
	}
	if d.Sound == "" {
		d.Sound = "default"
	}
	if d.Priority == "" {
		d.Priority = High
		// A device withdraws high priority from an app whose pushes show nothing,
		// and then its calls arrive late.
		if r.Kind == Refresh || r.Kind == Cancel && p == pnparam.FCM || p == pnparam.APNs && d.PushType == TypeBackground {
			d.Priority = Normal
		}
	}
	ttl, ok := o.TTL[r.Kind]
	if own.TTL != nil {
		ttl, ok = *own.TTL, true
	}
	switch {
	case ok && ttl > 0:
		d.Expires = now.Add(ttl)
	case !ok:
		d.Expires = r.Deadline
	}
	return d
}

func (o *Options) pushType(k Kind) Type {
	if t := o.PushType[k]; t != "" {
		return t
	}
	if k == Cancel || k == Refresh {
		return TypeBackground
	}
	return TypeAlert
}

// Validate reports each setting that is invalid for the provider.
func (o *Options) Validate(p pnparam.Provider, report func(field, problem string)) {
	for _, name := range sortedKeys(o.Templates) {
		field := "templates." + name
		if _, ok := templateName(p, name); !ok {
			report(field, "must be one of "+templateNames(p))
		} else if o.Templates[name] == "" {
			report(field, "must be the name of a file")
		}
	}
	eachKind("sounds", o.Sounds, report, func(_ Kind, field, sound string) {
		if sound == "" {
			report(field, "must be the name of a sound")
		}
	})
	eachKind("ttl", o.TTL, report, func(_ Kind, field string, ttl time.Duration) {
		validateRange(report, field, ttl, 0, MaxTTL)
	})
	eachKind("priority", o.Priority, report, func(k Kind, field string, priority Priority) {
		switch {
		case priority != High && priority != Normal:
			report(field, "must be high or normal")
		case priority == High && p == pnparam.APNs && o.pushType(k) == TypeBackground:
			report(field, "must be normal, because push_type is background")
		}
	})
	if len(o.PushType) > 0 && p != pnparam.APNs && p != pnparam.FCM {
		report("push_type", "is only for apns and fcm")
		return
	}
	eachKind("push_type", o.PushType, report, func(_ Kind, field string, t Type) {
		if t != TypeAlert && t != TypeBackground {
			report(field, "must be alert or background; a voip token has its own")
		}
	})
}

// eachKind calls f for the settings of known kinds, and reports the others.
func eachKind[T any](field string, settings map[Kind]T, report func(field, problem string), f func(k Kind, field string, value T)) {
	for _, k := range sortedKeys(settings) {
		at := field + "." + string(k)
		if !known(k) {
			report(at, "must be one of call, chat, cancel, custom and refresh")
			continue
		}
		f(k, at, settings[k])
	}
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// services returns the services that may have their own payload.
func services(p pnparam.Provider, k Kind) []pnparam.Service {
	switch {
	case p != pnparam.APNs:
		return nil
	case k == Call:
		return []pnparam.Service{pnparam.VoIP, pnparam.Remote}
	}
	return []pnparam.Service{pnparam.Remote} // no VoIP token is pushed for this kind
}

// templateName returns what a template of that name is for.
func templateName(p pnparam.Provider, name string) (templateKey, bool) {
	kind, service, has := strings.Cut(name, "_")
	key := templateKey{Kind(kind), pnparam.Service(service)}
	return key, known(key.kind) && (!has || slices.Contains(services(p, key.kind), key.service))
}

// templateNames lists the names for error messages.
func templateNames(p pnparam.Provider) string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
		for _, s := range services(p, k) {
			names = append(names, fmt.Sprintf("%s_%s", k, s))
		}
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
