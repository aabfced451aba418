package push

import (
	"errors"
	"syscall"
	"time"
)

// starvedPause is between tries of a push for which this machine lacked something.
const starvedPause = 250 * time.Millisecond

// Starved reports whether a request failed because this process or machine had no more
// files, ports or memory for it. Nothing was sent then, and neither the service nor the
// phone is to blame.
func Starved(err error) bool {
	for _, lack := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return false
}
