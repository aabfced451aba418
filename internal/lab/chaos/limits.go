package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Faults that take resources of the system away from a sipwake.

func needsLinux(*world) string {
	if runtime.GOOS != "linux" {
		return "not Linux"
	}
	return ""
}

// descriptors lets a sipwake open no more files than it has open, and later as many as
// before.
func descriptors(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s, d := oneSipwake(w, r), lasts(r)
	pid := s.process().PID()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return "", fmt.Errorf("cannot count files of %s: %w", s.name, err)
	}
	s.times.begin(s.name)
	defer s.times.end(s.name, s.grace)
	before, err := limitFiles(pid, uint64(len(list)))
	if err != nil {
		return "", fmt.Errorf("cannot limit files of %s: %w", s.name, err)
	}
	sleep(ctx, d)
	if _, err := limitFiles(pid, before); err != nil {
		return "", fmt.Errorf("cannot lift limit of %s: %w", s.name, err)
	}
	return fmt.Sprintf("%s, %d files", s.name, len(list)), nil
}

const memoryPrefix = "swc-"

// memory is a cgroup, version 1 or 2, that limits the memory of a sipwake.
type memory struct {
	dir, limit, none string
	write            func(name string, data []byte, perm os.FileMode) error
}

// newMemory creates the cgroup, or returns why it cannot.
func newMemory() (*memory, string) {
	var problems []error
	for _, m := range []memory{
		{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "-1", os.WriteFile},
		{"/sys/fs/cgroup", "memory.max", "max", os.WriteFile},
	} {
		left, _ := filepath.Glob(m.dir + "/" + memoryPrefix + "*")
		for _, dir := range left {
			if gone(strings.TrimPrefix(filepath.Base(dir), memoryPrefix)) {
				_ = os.Remove(dir) // of a run that crashed
			}
		}
		m.dir = filepath.Join(m.dir, memoryPrefix+strconv.Itoa(os.Getpid()))
		if err := os.Mkdir(m.dir, 0o755); err != nil {
			problems = append(problems, err)
			continue
		}
		if err := m.set(m.none); err != nil {
			m.remove()
			problems = append(problems, err)
			continue
		}
		return &m, ""
	}
	return nil, "no cgroup that limits memory: " + strings.ReplaceAll(errors.Join(problems...).Error(), "\n", "; ")
}

func (m *memory) set(bytes string) error {
	return m.write(filepath.Join(m.dir, m.limit), []byte(bytes), 0o600)
}

// press sets a limit below the memory in use, so that the kernel must reclaim some. The
// kernel may be too busy for that: then the error wraps errNotMade.
func (m *memory) press(ctx context.Context, bytes string) error {
	const tries, pause = 20, 100 * time.Millisecond
	for try := 1; ; try++ {
		err := m.set(bytes)
		if !errors.Is(err, syscall.EBUSY) {
			return err
		}
		if try == tries || ctx.Err() != nil {
			return fmt.Errorf("%w: %w", errNotMade, err)
		}
		sleep(ctx, pause)
	}
}

// remove removes the cgroup. The processes in it must have ended.
func (m *memory) remove() { _ = os.Remove(m.dir) } // at worst an empty cgroup stays

func needsMemory(w *world) string { return w.noMemory }

// shortOfMemory leaves a sipwake hardly more memory than it uses. If the system kills it,
// it is started again, as by a supervisor.
func shortOfMemory(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	s, d := oneSipwake(w, r), lasts(r)
	p := s.process()
	s.times.begin(s.name)
	if err := w.memory.write(filepath.Join(w.memory.dir, "cgroup.procs"), []byte(strconv.Itoa(p.PID())), 0o600); err != nil {
		return "", fmt.Errorf("cannot move %s into a cgroup: %w", s.name, err)
	}
	// What it has now does not count there, only additional memory.
	room := (1 + r.IntN(8)) << 18
	if err := w.memory.press(ctx, strconv.Itoa(room)); err != nil {
		s.times.end(s.name, s.grace)
		return "", fmt.Errorf("cannot limit memory of %s: %w", s.name, err)
	}
	waits, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-p.Exited():
	case <-waits.Done():
	}
	if err := w.memory.set(w.memory.none); err != nil {
		return "", fmt.Errorf("cannot lift limit of %s: %w", s.name, err)
	}
	select {
	case <-p.Exited():
		s.kill() // clean up after it
		return s.name + ", killed", s.run(ctx)
	default:
		s.times.end(s.name, s.grace)
		return s.name, nil
	}
}
