// Package cfg holds the Kamailio script: sipwake.cfg, which an administrator
// includes in a kamailio.cfg, and kamailio.cfg, a small proxy that uses it.
package cfg

import "embed"

// Files are sipwake.cfg and kamailio.cfg.
//
//go:embed *.cfg
var Files embed.FS
