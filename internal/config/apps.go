package config

import (
	"fmt"
	"log/slog"

	"github.com/sipwake/sipwake/push"
)

// AppConfig is the configuration of apps at one push service. To add a service, add a list
// to Config, a line to AppSections and one to apps.
type AppConfig interface {
	SetDefaults()
	// Validate reports every problem that can be found without reading files.
	Validate(report func(field, problem string))
	// Apps reads the files and returns the apps, which do not connect yet. An error begins
	// with the yaml name of the wrong field.
	Apps(log *slog.Logger) ([]push.App, error)
}

// AppEntry is one entry of the sections of apps.
type AppEntry struct {
	Field string // such as "fcm[0]"
	AppConfig
}

// AppSections returns the names of the sections that have apps.
func AppSections() []string {
	return []string{"apns", "fcm", "webpush", "hms", "webhooks", "relays", "acrobits"}
}

// Apps returns the entries of all sections of apps.
func (c *Config) Apps() []AppEntry {
	list := entries(nil, "apns", c.APNs)
	list = entries(list, "fcm", c.FCM)
	list = entries(list, "webpush", c.WebPush)
	list = entries(list, "hms", c.HMS)
	list = entries(list, "webhooks", c.Webhooks)
	list = entries(list, "relays", c.Relays)
	return append(list, AppEntry{"acrobits", &c.Acrobits})
}

func entries[T any, P interface {
	*T
	AppConfig
}](list []AppEntry, section string, configs []T) []AppEntry {
	for i := range configs {
		list = append(list, AppEntry{fmt.Sprintf("%s[%d]", section, i), P(&configs[i])})
	}
	return list
}
