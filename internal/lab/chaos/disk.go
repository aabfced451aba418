package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// newDisk mounts a disk at dir; one that can be slowed down, if the system supports it.
func (w *world) newDisk(dir string, megabytes int) error {
	err := w.net.loop(dir, megabytes)
	if err == nil {
		return nil
	}
	w.noSlow = "no disk that can be slow: " + err.Error()
	return w.net.disk(dir, megabytes)
}

// fillDisk fills the master's disk. The sentinels then consider the master down.
func fillDisk(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	return w.onMaster(ctx, func(m *redisHost) error {
		if err := fill(m.disk); err != nil {
			return err
		}
		sleep(ctx, d)
		return unfill(m.disk)
	})
}

// fillSpools fills the disks on which the sipwakes would keep REGISTERs, while all
// Redis servers are paused.
func fillSpools(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	var problems []error
	for _, s := range w.sipwakes {
		problems = append(problems, fill(s.spool))
	}
	_, err := pauseRedis(ctx, w, r)
	for _, s := range w.sipwakes {
		problems = append(problems, unfill(s.spool))
	}
	return "all spools, Redis away", errors.Join(append(problems, err)...)
}

func fill(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, "fill"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot fill disk: %w", err)
	}
	defer f.Close()
	for block := make([]byte, 1<<16); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	return nil
}

func unfill(dir string) error { return os.Remove(filepath.Join(dir, "fill")) }

// slowSpools blocks writes to the disks of the sipwakes' spools most of the time, while
// all Redis servers are paused. REGISTERs must still be answered in time.
func slowSpools(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	done := make(chan error)
	away, end := context.WithCancel(ctx)
	go func() { done <- stutter(away, w.spools()) }()
	_, err := pauseRedis(ctx, w, r)
	end()
	return "all spools, Redis away", errors.Join(err, <-done)
}

// slowRedisDisk blocks writes of the master to its append-only file most of the time.
// Nothing that was acknowledged may be lost.
func slowRedisDisk(ctx context.Context, w *world, r *rand.Rand) (string, error) {
	d := lasts(r)
	return w.onMaster(ctx, func(m *redisHost) error {
		limited, end := context.WithTimeout(ctx, d)
		defer end()
		return stutter(limited, []string{m.disk})
	})
}

func (w *world) spools() (dirs []string) {
	for _, s := range w.sipwakes {
		dirs = append(dirs, s.spool)
	}
	return dirs
}

// stutter freezes and thaws the file systems until ctx ends.
func stutter(ctx context.Context, dirs []string) error {
	// Should we die in the meantime, they must not stay as they are.
	later := exec.Command("sh", "-c", "sleep 15; for d in "+strings.Join(dirs, " ")+"; do fsfreeze -u $d; done")
	later.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := later.Start(); err != nil {
		return fmt.Errorf("cannot slow disks down: %w", err)
	}
	defer func() {
		_ = syscall.Kill(-later.Process.Pid, syscall.SIGKILL)
		_ = later.Wait()
	}()
	for ctx.Err() == nil {
		var problems []error
		for _, step := range []struct {
			flag  string
			lasts time.Duration
		}{{"-f", 250 * time.Millisecond}, {"-u", 50 * time.Millisecond}} {
			for _, dir := range dirs {
				problems = append(problems, command("fsfreeze", step.flag, dir))
			}
			sleep(ctx, step.lasts)
		}
		if err := errors.Join(problems...); err != nil {
			return err
		}
	}
	return nil
}

func needsSlowDisk(w *world) string {
	if w.noNet != "" {
		return w.noNet
	}
	return w.noSlow
}
