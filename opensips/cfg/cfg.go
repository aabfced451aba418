// Package cfg holds the OpenSIPS script: sipwake.cfg, which an administrator
// includes in an opensips.cfg; opensips.cfg, a small proxy that uses it, with
// settings.cfg; and pn_enable.cfg, one behind OpenSIPS' own push support.
package cfg

import "embed"

// Files are the scripts.
//
//go:embed *.cfg
var Files embed.FS
