// Package cfg has the Kamailio scripts: sipwake.cfg, which an administrator includes in
// a kamailio.cfg; kamailio.cfg, a small proxy that uses it; and gateway.cfg, a push
// gateway in front of a PBX.
package cfg

import "embed"

// Files are sipwake.cfg, kamailio.cfg and gateway.cfg.
//
//go:embed *.cfg
var Files embed.FS
