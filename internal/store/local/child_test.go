package local_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// runChild is what the test binary does when a test starts it as a process of
// its own.
func runChild(what string) {
	path := os.Getenv("SIPWAKE_TEST_PATH")
	if seed, ok := strings.CutPrefix(what, "damage"); ok {
		if err := childDamage(seed); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		return
	}
	s, err := local.New(local.Config{Path: path}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	switch what {
	case "crash":
		childCrash(s)
	case "outbox":
		childOutbox(s)
	case "power":
		err = childPower(s)
	case "full":
		err = childFull(s)
	}
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("fine")
}

func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SIPWAKE_TEST_CHILD="+what, "SIPWAKE_TEST_PATH="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// childCrash binds and unbinds devices and tells what was acknowledged, until it
// is killed.
func childCrash(s *local.Store) {
	var mu sync.Mutex // a line is written whole
	var next atomic.Int64
	for range 8 {
		go func() {
			for {
				n := int(next.Add(1))
				r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
				got, err := s.Register(context.Background(), r)
				if err == nil && n%5 == 0 {
					mu.Lock()
					fmt.Printf("removing %d\n", n)
					mu.Unlock()
					r.Action = wake.ActionUnbind
					got, err = s.Register(context.Background(), r)
				}
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Printf("%s %d\n", got.Status, n)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// killed runs a child that says what was acknowledged, kills it when that is so many, and
// returns all that it has said.
func killed(t *testing.T, task, path string, after int) (acknowledged map[int]string) {
	t.Helper()
	cmd := child(t, task, path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged = make(map[int]string)
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // the last line may be half a line
			break
		}
		var word string
		var n int
		if _, err := fmt.Sscanf(line, "%s %d", &word, &n); err != nil {
			t.Fatalf("child says %q", line)
		}
		acknowledged[n] = word
		if len(acknowledged) == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	return acknowledged
}

// Whatever was acknowledged survives the death of the process at any moment.
func TestCrash(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for round := range 3 {
		if round > 0 {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		acknowledged := killed(t, "crash", path, 300+100*round)
		s := open(t, path, storetest.Options{})
		stored := 0
		for n, word := range acknowledged {
			got := len(bindings(t, s, fmt.Sprintf("user%d@example.com", n)))
			if word == "stored" && got != 1 {
				t.Fatalf("user%d was acknowledged as stored and is lost (of %d)", n, len(acknowledged))
			}
			if word == "removed" && got != 0 {
				t.Fatalf("user%d was acknowledged as removed and is back", n)
			}
			stored += got
		}
		t.Logf("%d acknowledged, %d bindings found", len(acknowledged), stored)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A second process is told what is wrong and does not wait.
func TestTwoProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{})
	out, err := child(t, "open", path).Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(out), "another process has it open") {
		t.Fatalf("second process: %v, %q", err, out)
	}
	register(t, s, storetest.Registration("alice@example.com", 1))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := child(t, "open", path).Output(); err != nil || string(out) != "fine\n" {
		t.Fatalf("after the first has closed: %v, %q", err, out)
	}
}

// A disk without room, which is a limit of the file's size here: nothing is
// acknowledged, everything else goes on, and all is written when there is room.
func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	out, err := child(t, "full", path).Output()
	if err != nil || !strings.HasSuffix(string(out), "fine\n") {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
	s := open(t, path, storetest.Options{})
	for n := range 3 {
		if got := bindings(t, s, fmt.Sprintf("known%d@example.com", n)); len(got) != 1 || got[0].CSeq != 777 {
			t.Errorf("known%d: %+v", n, got)
		}
	}
}

func childFull(s *local.Store) error {
	signal.Ignore(syscall.SIGXFSZ)
	ctx := context.Background()
	known := func(n int) wake.Registration {
		return storetest.Registration(fmt.Sprintf("known%d@example.com", n), n)
	}
	for n := range 3 {
		if _, err := s.Register(ctx, known(n)); err != nil {
			return err
		}
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 4096, Max: old.Max}); err != nil {
		return err
	}
	// It says so, every time, of a new binding and of a removal.
	fresh := storetest.Registration("fresh@example.com", 100)
	for range 3 {
		if got, err := s.Register(ctx, fresh); !errors.Is(err, wake.ErrUnavailable) {
			return fmt.Errorf("stored on a full disk: %v, %w", got, err)
		}
	}
	un := known(2)
	un.Action = wake.ActionUnbind
	for range 2 {
		if got, err := s.Register(ctx, un); !errors.Is(err, wake.ErrUnavailable) {
			return fmt.Errorf("removed on a full disk: %v, %w", got, err)
		}
	}
	if n, err := s.Remove(ctx, wake.Removal{AOR: un.AOR}); !errors.Is(err, wake.ErrUnavailable) {
		return fmt.Errorf("removed on a full disk: %d, %w", n, err)
	}
	if err := s.Put(ctx, storetest.Message(1)); !errors.Is(err, wake.ErrUnavailable) {
		return fmt.Errorf("put on a full disk: %w", err)
	}
	if ok, err := s.Claim(ctx, "key", time.Hour); !errors.Is(err, wake.ErrUnavailable) || ok {
		return fmt.Errorf("claimed on a full disk: %t, %w", ok, err)
	}
	if err := s.Ping(ctx); !errors.Is(err, wake.ErrUnavailable) {
		return fmt.Errorf("ping on a full disk: %w", err)
	}
	// Known devices refresh, wakes go on.
	for n := range 2 {
		r := known(n)
		r.CSeq = 777
		if got, err := s.Register(ctx, r); err != nil || got.Status != wake.StatusRefreshed {
			return fmt.Errorf("refresh on a full disk: %v, %w", got, err)
		}
	}
	w := wake.Wake{AOR: known(0).AOR, Node: "n", Call: "c", StartedAt: time.Now(), Deadline: time.Now().Add(time.Minute)}
	if got, err := s.Start(ctx, w); err != nil || len(got.Bindings) != 1 {
		return fmt.Errorf("start on a full disk: %v, %w", got, err)
	}
	// There is room again: nothing needs repair by hand.
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	if got, err := s.Register(ctx, fresh); err != nil || got.Status != wake.StatusStored {
		return fmt.Errorf("stored again: %v, %w", got, err)
	}
	if got, err := s.Register(ctx, fresh); err != nil || got.Status != wake.StatusRefreshed {
		return fmt.Errorf("refreshed again: %v, %w", got, err)
	}
	if err := s.Ping(ctx); err != nil {
		return err
	}
	if ok, err := s.Claim(ctx, "key", time.Hour); err != nil || !ok {
		return fmt.Errorf("claimed again: %t, %w", ok, err)
	}
	if list, err := s.Due(ctx, time.Now(), time.Hour, 9); err != nil || len(list) != 0 {
		return fmt.Errorf("due of a message that was refused: %v, %w", list, err)
	}
	r := known(2)
	r.CSeq = 777
	if got, err := s.Register(ctx, r); err != nil || got.Status != wake.StatusStored {
		return fmt.Errorf("bound again: %v, %w", got, err)
	}
	_, err := io.WriteString(os.Stdout, "full and back\n")
	return err
}
