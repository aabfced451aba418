// Package stack runs the real servers that a demo or an end-to-end test needs, as
// child processes: Kamailio with sipwake.cfg, Redis, and sipwake itself.
//
// A child never outlives its parent: Stop ends it and waits, and if the parent crashes,
// Linux ends it.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

const (
	// stopTimeout is how long a child may take to end when asked to.
	stopTimeout = 5 * time.Second
	readyPause  = 20 * time.Millisecond
	logTail     = 2000 // bytes of a log that an error shows
)

// Process is a running child. Safe for concurrent use.
type Process struct {
	name    string
	log     string // file
	cmd     *exec.Cmd
	dir     string // removed by Stop; may be empty
	stopped sync.Once

	exited  chan struct{} // closed when the child has ended and been waited for
	exitErr error         // valid after exited is closed
}

// command describes a program to start.
type command struct {
	name string
	path string
	args []string
	dir  string   // for the log
	env  []string // in addition to the parent's
	// remove says that dir was created for this child alone.
	remove bool
	// orphan is the signal that the child gets when its parent dies.
	orphan syscall.Signal
}

// start runs the program in its own process group, with its output in a log file.
func start(c command) (*Process, error) {
	p := &Process{name: c.name, log: filepath.Join(c.dir, c.name+".log"), exited: make(chan struct{})}
	if c.remove {
		p.dir = c.dir
	}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(c.path, c.args...)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.Env = append(os.Environ(), c.env...)
	p.cmd.SysProcAttr = childAttributes(c.orphan)
	started := make(chan error)
	go func() {
		// For Linux the parent is the thread that started the child. So this thread
		// stays until the child has ended, and does nothing else.
		runtime.LockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.exitErr = p.cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", c.name, err)
	}
	return p, nil
}

// waitReady calls ready until it succeeds. If the child ends first, or ctx, the
// child is stopped and the error shows the end of its log.
func (p *Process) waitReady(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(readyPause)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			err = fmt.Errorf("it ended: %w", errOr(p.exitErr, errors.New("without an error")))
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-tick.C:
			continue
		}
		tail := p.LogTail()
		p.Stop()
		return fmt.Errorf("cannot start %s: %w\n%s", p.name, err, tail)
	}
}

func errOr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// Log returns the file with what the child has printed.
func (p *Process) Log() string { return p.log }

// LogTail returns the end of what the child has printed.
func (p *Process) LogTail() string {
	f, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > logTail {
		_, _ = f.Seek(-logTail, io.SeekEnd)
	}
	b, _ := io.ReadAll(f)
	return string(b)
}

// Exited returns a channel that is closed when the child has ended, for any reason.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Signal sends a signal to the child itself, not to its own children.
func (p *Process) Signal(s syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
		return p.cmd.Process.Signal(s)
	}
}

// PID returns the ID of the child and of its process group.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// SignalAll sends a signal to the child and to its own children.
func (p *Process) SignalAll(s syscall.Signal) error {
	select {
	case <-p.exited:
		return os.ErrProcessDone
	default:
		return syscall.Kill(-p.cmd.Process.Pid, s)
	}
}

// Stop asks the child to end. If it does not within some seconds, Stop kills it and its own
// children. It returns when the child is gone. Later calls only wait for the first.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

// Kill ends the child and its own children at once, as a crash would, and
// returns when it is gone. Its files stay until Stop.
func (p *Process) Kill() {
	p.killGroup()
	<-p.exited
}

func (p *Process) end(s syscall.Signal) {
	p.stopped.Do(func() {
		_ = p.Signal(s)
		select {
		case <-p.exited:
		case <-time.After(stopTimeout):
		}
		// Even if it has ended: it may have left children behind.
		p.killGroup()
		<-p.exited
		leak.Copy(p.name, p.log)
		if p.dir != "" {
			_ = os.RemoveAll(p.dir)
		}
	})
}

func (p *Process) killGroup() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// Stopper is what Group ends.
type Stopper interface{ Stop() }

// Group ends several children together, the last one first. The zero Group is
// empty and ready. Safe for concurrent use.
type Group struct {
	mu       sync.Mutex
	stoppers []Stopper
}

// Add puts a child into the group.
func (g *Group) Add(s Stopper) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stoppers = append(g.stoppers, s)
}

// Stop stops every child of the group and empties it.
func (g *Group) Stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.stoppers) - 1; i >= 0; i-- {
		g.stoppers[i].Stop()
	}
	g.stoppers = nil
}
