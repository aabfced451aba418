package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/internal/lab/stack"
)

// server is a process that is killed, paused and restarted during a run. Its bad times
// are recorded by its name. Safe for concurrent use.
type server struct {
	name  string
	times *times
	start func(context.Context) (*stack.Process, error)
	// grace is how long others may take to notice that it is back.
	grace time.Duration

	mu    sync.Mutex
	p     *stack.Process
	ended chan struct{} // closed when p was ended
}

// run starts it and returns when it can work.
func (s *server) run(ctx context.Context) error {
	p, err := s.start(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.p, s.ended = p, make(chan struct{})
	s.mu.Unlock()
	s.times.end(s.name, s.grace)
	return nil
}

func (s *server) process() *stack.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.p
}

// died is closed when the process of now is ended.
func (s *server) died() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ended
}

// kill ends it like a crash.
func (s *server) kill() { s.finish((*stack.Process).Kill) }

// stop asks it to end.
func (s *server) stop() { s.finish((*stack.Process).Stop) }

func (s *server) finish(end func(*stack.Process)) {
	s.times.begin(s.name)
	s.mu.Lock()
	p, ended := s.p, s.ended
	s.mu.Unlock()
	if p == nil {
		return
	}
	select {
	case <-ended:
	default:
		close(ended)
	}
	end(p)
}

// pause stops it, with its children, for d.
func (s *server) pause(ctx context.Context, d time.Duration) error {
	s.times.begin(s.name)
	defer s.times.end(s.name, s.grace)
	return s.halt(ctx, d)
}

func (s *server) halt(ctx context.Context, d time.Duration) error {
	p := s.process()
	// Should we die in the meantime, it must not stay as it is.
	if d > time.Second {
		later := exec.Command("sh", "-c", fmt.Sprintf("sleep %d; kill -CONT -- -%d", int(d.Seconds())+2, p.PID()))
		later.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := later.Start(); err != nil {
			return fmt.Errorf("cannot pause %s: %w", s.name, err)
		}
		defer func() {
			_ = syscall.Kill(-later.Process.Pid, syscall.SIGKILL)
			_ = later.Wait()
		}()
	}
	if err := p.SignalAll(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("cannot pause %s: %w", s.name, err)
	}
	sleep(ctx, d)
	if err := p.SignalAll(syscall.SIGCONT); err != nil {
		return fmt.Errorf("cannot go on with %s: %w", s.name, err)
	}
	return nil
}

// slow pauses and resumes it in short turns, for d.
func (s *server) slow(ctx context.Context, d time.Duration) error {
	for until := time.Now().Add(d); time.Now().Before(until) && ctx.Err() == nil; {
		if err := s.halt(ctx, 120*time.Millisecond); err != nil {
			return err
		}
		sleep(ctx, 60*time.Millisecond)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
