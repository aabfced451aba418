package push

import (
	"errors"
	"net"
	"syscall"
	"time"
)

// starvedPause is the pause between tries of a call for which this machine lacked a
// resource.
const starvedPause = 250 * time.Millisecond

// Starved reports whether a request failed because this process or machine ran out of
// files, ports or memory. In that case nothing was sent, and neither the service nor
// the phone is to blame.
func Starved(err error) bool {
	for _, lack := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, lack) {
			return true
		}
	}
	return noPort(err)
}

// noPort reports whether all local ports were in use. If IPv6 is disabled, its
// addresses fail with the same error.
func noPort(err error) bool {
	var dial *net.OpError
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || !errors.As(err, &dial) {
		return false
	}
	to, ok := dial.Addr.(*net.TCPAddr)
	return ok && to.IP.To4() != nil
}
