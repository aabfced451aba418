// Package cfg has the OpenSIPS scripts: sipwake.cfg, which an administrator includes in
// an opensips.cfg; opensips.cfg, a small proxy that uses it, with settings.cfg;
// pn_enable.cfg, the same proxy with OpenSIPS' own push support; and gateway.cfg, a push
// gateway in front of a PBX.
package cfg

import "embed"

// Files are the scripts.
//
//go:embed *.cfg
var Files embed.FS
