package main

import (
	"testing"
	"testing/fstest"
)

func TestCgroupMemory(t *testing.T) {
	f := func(want int64, files ...string) {
		t.Helper()
		root := fstest.MapFS{}
		for i := 0; i < len(files); i += 2 {
			root[files[i]] = &fstest.MapFile{Data: []byte(files[i+1] + "\n")}
		}
		got, ok := cgroupMemory(root)
		if ok != (want > 0) || ok && got != want {
			t.Errorf("%q: %d, %v, want %d", files, got, ok, want)
		}
	}
	f(0)
	f(0, "proc/self/cgroup", "0::/a/b")
	f(500, "proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/b/memory.max", "500")
	f(400, "proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/b/memory.max", "500", "sys/fs/cgroup/a/memory.max", "400")
	f(400, "proc/self/cgroup", "0::/a/b", "sys/fs/cgroup/a/b/memory.max", "max", "sys/fs/cgroup/a/memory.max", "400")
	f(0, "proc/self/cgroup", "0::/a", "sys/fs/cgroup/a/memory.max", "max")
	f(300, "proc/self/cgroup", "0::/", "sys/fs/cgroup/memory.max", "300")         // a container's own view
	f(300, "proc/self/cgroup", "0::/../other", "sys/fs/cgroup/memory.max", "300") // and one that is elsewhere
	f(200, "proc/self/cgroup", "5:cpu,memory:/x\n0::/", "sys/fs/cgroup/memory/x/memory.limit_in_bytes", "200")
	f(200, "proc/self/cgroup", "5:memory:/docker/x", "sys/fs/cgroup/memory/memory.limit_in_bytes", "200")
	f(0, "proc/self/cgroup", "5:memory:/x", "sys/fs/cgroup/memory/x/memory.limit_in_bytes", "9223372036854771712")
	f(0, "proc/self/cgroup", "strange\n1:2")
}
