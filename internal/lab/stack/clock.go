package stack

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clockEnv is the environment variable with the file that steps a program's clock.
const clockEnv = "SIPWAKE_LAB_CLOCK"

// steppedNow replaces the code by which time.Now reads the clock. It steps only the wall
// clock, not the monotonic one, like an administrator or ntpd who sets the time.
const (
	ownNow     = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	steppedNow = ownNow + "\tif labStep != nil {\n\t\tsec += *labStep\n\t}\n"
	stepFile   = `package time

import (
	"syscall"
	"unsafe"
)

// labStep is how many seconds the wall clock is stepped by.
var labStep = func() *int64 {
	name, ok := syscall.Getenv("` + clockEnv + `")
	if !ok {
		return nil
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic("cannot open " + name)
	}
	b, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic("cannot map " + name)
	}
	syscall.Close(fd)
	return (*int64)(unsafe.Pointer(&b[0]))
}()
`
)

// BuildStepped builds a sipwake whose clock can be stepped, from the module of the working
// directory: the same code, with another time.Now. Temporary files go to dir.
func BuildStepped(ctx context.Context, dir, program string) error {
	root, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("cannot find Go: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(root)), "src", "time")
	text, err := os.ReadFile(filepath.Join(src, "time.go"))
	if err != nil {
		return fmt.Errorf("cannot read Go's source: %w", err)
	}
	if !bytes.Contains(text, []byte(ownNow)) {
		return errors.New("cannot step the clock: this Go has another time.Now")
	}
	text = bytes.Replace(text, []byte(ownNow), []byte(steppedNow), 1)
	now, step, list := filepath.Join(dir, "time.go"), filepath.Join(dir, "step.go"), filepath.Join(dir, "overlay.json")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(src, "time.go"): now, filepath.Join(src, "labstep.go"): step}})
	if err := errors.Join(err, os.WriteFile(now, text, 0o600), os.WriteFile(step, []byte(stepFile), 0o600),
		os.WriteFile(list, overlay, 0o600)); err != nil {
		return fmt.Errorf("cannot write clock: %w", err)
	}
	build := exec.CommandContext(ctx, "go", "build", "-overlay", list, "-o", program, "github.com/sipwake/sipwake/cmd/sipwake")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot build sipwake with a clock that can be stepped: %w: %s", err, out)
	}
	return nil
}

// Clock is the file that steps the clock of a program built by BuildStepped.
type Clock struct{ path string }

// NewClock creates the file, without a step.
func NewClock(path string) (*Clock, error) { c := &Clock{path}; return c, c.Step(0) }

// Env returns what the program needs in its environment.
func (c *Clock) Env() []string { return []string{clockEnv + "=" + c.path} }

// Step sets the clock wrong by whole seconds; 0 sets it right.
func (c *Clock) Step(by time.Duration) error {
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("cannot step clock: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(by/time.Second)), 0); err != nil {
		return fmt.Errorf("cannot step clock: %w", err)
	}
	return nil
}
