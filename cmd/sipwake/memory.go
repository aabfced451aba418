package main

import (
	"bytes"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"
)

// memoryShare is the share of the cgroup's memory limit for Go's heap and stacks. The rest
// is for mapped files, and for memory that Go does not count.
const memoryShare = .8

// limitMemory makes Go collect garbage sooner when the cgroup's memory is almost used up,
// so that the kernel does not kill the service. GOMEMLIMIT in the environment takes
// precedence.
func limitMemory(root fs.FS, log *slog.Logger) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	if most, ok := cgroupMemory(root); ok {
		limit := int64(float64(most) * memoryShare)
		debug.SetMemoryLimit(limit)
		log.Debug("memory limit set", "cgroup_bytes", most, "limit_bytes", limit)
	}
}

// cgroupMemory returns the memory limit of this process's cgroup and its parents; false if
// there is none. root is the root of the file system.
func cgroupMemory(root fs.FS) (most int64, ok bool) {
	most = math.MaxInt64
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(text) {
		// ID, controllers of version 1, path
		parts := strings.SplitN(strings.TrimSpace(string(line)), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var mount, file string
		switch {
		case parts[0] == "0" && parts[1] == "":
			mount, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+parts[1]+",", ",memory,"):
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// In a container the root of the mount may be the process's own cgroup. Then
		// the path does not exist, and the limit is at the root.
		for dir := path.Join(mount, path.Clean("/"+parts[2])); len(dir) >= len(mount); dir = path.Dir(dir) {
			if n, err := readLimit(root, path.Join(dir, file)); err == nil {
				most = min(most, n)
			}
		}
	}
	const none = 1 << 60 // version 1 has a number near the maximum instead
	return most, most < none
}

func readLimit(root fs.FS, name string) (int64, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" means no limit
}
