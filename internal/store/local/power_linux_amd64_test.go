package local_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

// childPower binds phones, some at one time and some alone, changes and removes some,
// and tells what was acknowledged, each with one write.
func childPower(s *local.Store) error {
	say := func(word string, n int) { _, _ = fmt.Fprintf(os.Stdout, "%s %d\n", word, n) }
	register := func(n int, action wake.Action) error {
		r := storetest.Registration(fmt.Sprintf("user%d@example.com", n), n)
		r.Action = action
		if action == wake.ActionUnbind {
			say("removing", n)
		}
		got, err := s.Register(context.Background(), r)
		if err == nil {
			say(string(got.Status), n)
		}
		return err
	}
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for i := range 15 {
				n := 100*w + i
				err := register(n, wake.ActionBind)
				if err == nil && n%7 == 3 {
					err = register(n, wake.ActionUnbind)
				}
				if err != nil {
					say("error", n)
				}
			}
		})
	}
	all.Wait()
	return nil
}

// event is one thing that a process did: wrote to the file, had it on the disk, changed
// its length, or said something.
type event struct {
	kind string // write, sync, length, said
	at   int64
	data []byte
}

// tracer records what a process does to one file, in the order in which the kernel saw
// it.
type tracer struct {
	path    string
	pending map[int]*event // by thread: begun and not ended
	inside  map[int]bool
	events  []event
}

const waitOurs = 0x40000000 | 0x20000000 // __WALL, __WNOTHREAD

// record runs the test binary as a child and returns what it did.
func record(t *testing.T, what, path string) []event {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p, err := os.StartProcess(os.Args[0], os.Args[:1], &os.ProcAttr{
		Env:   append(os.Environ(), "SIPWAKE_TEST_CHILD="+what, "SIPWAKE_TEST_PATH="+path),
		Files: []*os.File{null, null, os.Stderr},
		Sys:   &syscall.SysProcAttr{Ptrace: true},
	})
	if err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSYS) {
			t.Skip("a process cannot be traced here")
		}
		t.Fatal(err)
	}
	tr := tracer{path: path, pending: make(map[int]*event), inside: make(map[int]bool)}
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(p.Pid, &ws, waitOurs, nil); err != nil {
		t.Fatal(err)
	}
	const sysGood, exitKill = 1, 0x100000
	if err := syscall.PtraceSetOptions(p.Pid, sysGood|exitKill|syscall.PTRACE_O_TRACECLONE); err != nil {
		t.Fatal(err)
	}
	if err := syscall.PtraceSyscall(p.Pid, 0); err != nil {
		t.Fatal(err)
	}
	for {
		pid, err := syscall.Wait4(-1, &ws, waitOurs, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if ws.Exited() || ws.Signaled() {
			if pid == p.Pid {
				if ws.ExitStatus() != 0 {
					t.Fatalf("the child ended with %d", ws.ExitStatus())
				}
				return tr.events
			}
			continue
		}
		pass := 0
		switch sig := ws.StopSignal(); sig {
		case syscall.SIGTRAP | 0x80:
			tr.syscall(pid)
		case syscall.SIGTRAP, syscall.SIGSTOP: // a new thread
		default:
			pass = int(sig)
		}
		_ = syscall.PtraceSyscall(pid, pass) // it may be gone
	}
}

// syscall notes what a thread that stands at one asks, or, at its end, that it did.
func (tr *tracer) syscall(tid int) {
	if tr.inside[tid] = !tr.inside[tid]; !tr.inside[tid] {
		if e := tr.pending[tid]; e != nil {
			tr.events = append(tr.events, *e)
			delete(tr.pending, tid)
		}
		return
	}
	var regs syscall.PtraceRegs
	if syscall.PtraceGetRegs(tid, &regs) != nil {
		return
	}
	fd := int(regs.Rdi)
	switch regs.Orig_rax {
	case syscall.SYS_PWRITE64:
		if tr.ours(tid, fd) {
			tr.pending[tid] = &event{"write", int64(regs.R10), peek(tid, regs.Rsi, regs.Rdx)}
		}
	case syscall.SYS_FDATASYNC, syscall.SYS_FSYNC:
		if tr.ours(tid, fd) {
			tr.pending[tid] = &event{kind: "sync"}
		}
	case syscall.SYS_FTRUNCATE:
		if tr.ours(tid, fd) {
			tr.pending[tid] = &event{kind: "length", at: int64(regs.Rsi)}
		}
	case syscall.SYS_WRITE:
		if fd == 1 { // at its beginning: nobody may hear it earlier
			tr.events = append(tr.events, event{kind: "said", data: peek(tid, regs.Rsi, regs.Rdx)})
		}
	}
}

func (tr *tracer) ours(tid, fd int) bool {
	to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, fd))
	return err == nil && to == tr.path
}

func peek(tid int, at, n uint64) []byte {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", tid))
	if err != nil {
		return nil
	}
	defer mem.Close()
	b := make([]byte, n)
	_, _ = io.ReadFull(io.NewSectionReader(mem, int64(at), int64(n)), b)
	return b
}

const sector = 512

// powerLoss returns what is on the disk if the power fails after some events: what was
// synced, and of the rest whichever sectors the device had taken, in any order.
func powerLoss(events []event, rnd *rand.Rand) []byte {
	var disk []byte
	var loose []event
	apply := func(e event) {
		if e.kind == "length" {
			disk = append(disk[:min(int(e.at), len(disk))], make([]byte, max(int(e.at)-len(disk), 0))...)
			return
		}
		disk = append(disk, make([]byte, max(int(e.at)+len(e.data)-len(disk), 0))...)
		copy(disk[e.at:], e.data)
	}
	for _, e := range events {
		switch e.kind {
		case "write", "length":
			loose = append(loose, e)
		case "sync":
			for _, e := range loose {
				apply(e)
			}
			loose = nil
		}
	}
	keep := rnd.Float64() * 1.2 // all of it at times
	for _, i := range rnd.Perm(len(loose)) {
		e := loose[i]
		if e.kind == "length" {
			if rnd.Float64() < keep {
				apply(e)
			}
			continue
		}
		for from := 0; from < len(e.data); from += sector {
			if rnd.Float64() < keep {
				apply(event{"write", e.at + int64(from), e.data[from:min(from+sector, len(e.data))]})
			}
		}
	}
	return disk
}

// Whenever the power fails, what was acknowledged is there: on a device that loses and
// reorders what it was not told to keep.
func TestPowerLoss(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	events := record(t, "power", path)
	syncs := 0
	for _, e := range events {
		if e.kind == "sync" {
			syncs++
		}
	}
	if syncs < 20 {
		t.Fatalf("%d events, %d syncs: not all was recorded", len(events), syncs)
	}
	rnd := rand.New(rand.NewPCG(7, uint64(time.Now().UnixNano())))
	lost := filepath.Join(dir, "lost.db")
	cuts := 60
	if testing.Short() {
		cuts = 20
	}
	for range cuts {
		cut := rnd.IntN(len(events) + 1)
		said := make(map[string]string)
		for _, e := range events[:cut] {
			if e.kind == "said" {
				word, n, _ := strings.Cut(strings.TrimSpace(string(e.data)), " ")
				said[n] = word
			}
		}
		if err := os.WriteFile(lost, powerLoss(events[:cut], rnd), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, lost, storetest.Options{})
		if s.Notice() != "" && len(said) > 0 {
			t.Errorf("cut at %d of %d: %s", cut, len(events), s.Notice())
		}
		for n, word := range said {
			got := len(bindings(t, s, "user"+n+"@example.com"))
			if word == "stored" && got != 1 || word == "removed" && got != 0 || word == "error" {
				t.Errorf("cut at %d of %d: user%s was %s, and has %d bindings", cut, len(events), n, word, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d events, %d syncs, %d cuts", len(events), syncs, cuts)
}
