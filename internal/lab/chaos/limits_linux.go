package chaos

import "golang.org/x/sys/unix"

// limitFiles changes how many files a process may open, and returns what it was.
func limitFiles(pid int, most uint64) (before uint64, err error) {
	var l unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		return 0, err
	}
	before, l.Cur = l.Cur, most
	return before, unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil)
}
