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

// memoryShare is how much of what the cgroup may have is for Go's heap and stacks: the
// rest is for mapped files, and for what Go does not count.
const memoryShare = .8

// limitMemory has Go collect garbage sooner when the memory that the cgroup has is
// almost used up, so that the kernel does not end the service. What the environment
// says (GOMEMLIMIT) stands.
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

// cgroupMemory returns the most memory that this process's cgroup, or one above it,
// may have; false if there is no limit. root is the root of the file system.
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
		// In a container the mount may begin at the process's own cgroup: then the
		// path is not there, and the limit is at the top.
		for dir := path.Join(mount, path.Clean("/"+parts[2])); len(dir) >= len(mount); dir = path.Dir(dir) {
			if n, err := readLimit(root, path.Join(dir, file)); err == nil {
				most = min(most, n)
			}
		}
	}
	const none = 1 << 60 // version 1 says a number near the largest there is
	return most, most < none
}

func readLimit(root fs.FS, name string) (int64, error) {
	text, err := fs.ReadFile(root, name)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64) // "max" is none
}
