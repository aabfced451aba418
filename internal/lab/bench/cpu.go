package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// tick is the unit of times in /proc, the same on every Linux (USER_HZ).
const tick = 10 * time.Millisecond

// cpuOf returns the CPU time of a process, user and system.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot take the CPU time of a process: %w", err)
	}
	const user, system = 14 - 3, 15 - 3 // counted after the name, which comes second and may have blanks
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) <= system {
		return 0, errors.New("cannot take the CPU time of a process: /proc/PID/stat is short")
	}
	var ticks int64
	for _, f := range [][]byte{fields[user], fields[system]} {
		n, err := strconv.ParseInt(string(f), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot take the CPU time of a process: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// spent returns the CPU time of the process during f, in microseconds for each operation
// that f counts.
func spent(pid int, f func() (int, error)) (each float64, err error) {
	before, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	n, err := f()
	if err != nil {
		return 0, err
	}
	after, err := cpuOf(pid)
	if err != nil {
		return 0, err
	}
	return float64((after - before).Microseconds()) / float64(max(n, 1)), nil
}
