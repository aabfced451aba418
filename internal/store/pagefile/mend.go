package pagefile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"
)

// keepDamaged is how many damaged copies are kept of a file; each is as large as the file.
const keepDamaged = 3

var (
	// ErrInUse is returned for a file that another process has open.
	ErrInUse = errors.New("another process has it open")
	errIsDir = errors.New("it is a directory, a file is expected")
)

// Found describes what was done about a damaged file.
type Found struct {
	Why    string // the first problem
	Aside  string // where the damaged file is now
	Empty  bool   // nothing of it could be read
	Report Report
}

// What describes it in words.
func (f *Found) What() string {
	if f.Empty {
		return "nothing of it could be read, and it begins empty"
	}
	return "what could be read was copied"
}

// OpenChecked opens a file for reading and checks every page. If the file is missing or
// empty, all results are nil. If the report is not OK, there is still a view, unless
// nothing can be read. The caller must close the file.
func OpenChecked(path string, patience time.Duration, l Layout) (f *os.File, v *View, r Report, err error) {
	f, err = os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, r, nil
	}
	if err != nil {
		return nil, nil, r, err
	}
	defer func() {
		if err != nil || v == nil && r.OK() {
			_ = f.Close()
			f = nil
		}
	}()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return f, nil, r, err
	case fi.IsDir():
		return f, nil, r, errIsDir
	case fi.Size() == 0:
		return f, nil, r, nil
	}
	if err := lock(f, patience); err != nil {
		return f, nil, r, err
	}
	m, _, metaErr := ReadMetas(f)
	if metaErr != nil {
		r.Damaged, r.Problems = 1, []string{metaErr.Error()}
		return f, nil, r, nil
	}
	v = NewView(f, m)
	r = v.Check()
	if l.Verify != nil && r.OK() {
		switch verified := errors.Join(l.Verify(v, &r), v.Err()); {
		case errors.Is(verified, ErrDamaged):
			r.Damaged, r.Problems = 1, []string{verified.Error()}
		case verified != nil:
			return f, v, r, verified
		}
	}
	return f, v, r, nil
}

// Mend checks a file before bbolt opens it. It sets a damaged file aside, under a name
// that ends with .damaged and the time, and replaces it by what can be read of it, if
// anything. It returns nil if the file is not damaged.
func Mend(path string, patience time.Duration, l Layout) (*Found, error) {
	f, v, r, err := OpenChecked(path, patience, l)
	if f != nil {
		defer f.Close()
	}
	switch {
	case err != nil || r.OK():
		return nil, err
	case v == nil:
		aside, err := setAside(path, "", time.Now())
		return &Found{Why: r.Problems[0], Aside: aside, Empty: true}, err
	}
	return Replace(v, path, r.Problems[0], l)
}

// Replace atomically replaces a damaged file by what can be read of it.
func Replace(v *View, path, why string, l Layout) (*Found, error) {
	fresh := path + ".rescued"
	report, err := Rescue(v, fresh, l)
	if err != nil {
		return nil, fmt.Errorf("it is damaged (%s) and cannot be made anew: %w", why, err)
	}
	aside, err := setAside(path, fresh, time.Now())
	if err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	return &Found{Why: why, Aside: aside, Report: report}, nil
}

// SetAside renames a damaged file and returns the new name.
func SetAside(path string) (aside string, err error) { return setAside(path, "", time.Now()) }

// setAside renames the damaged file and puts the new file, if there is one, in its place.
// It removes the oldest of the files that were set aside before.
func setAside(path, fresh string, now time.Time) (aside string, err error) {
	aside = path + ".damaged-" + now.UTC().Format("20060102T150405.000")
	if fresh == "" {
		err = os.Rename(path, aside)
	} else if err = os.Link(path, aside); err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return "", fmt.Errorf("cannot set the damaged file aside: %w", err)
	}
	dropAside(path)
	return aside, nil
}

func dropAside(path string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	var old []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), filepath.Base(path)+".damaged-") {
			old = append(old, e.Name())
		}
	}
	slices.Sort(old)
	for _, name := range old[:max(len(old)-keepDamaged, 0)] {
		_ = os.Remove(filepath.Join(filepath.Dir(path), name))
	}
}

// SyncDir syncs a directory, so that the names in it are on disk.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// lock waits a moment for another process to release the file.
func lock(f *os.File, patience time.Duration) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return ErrInUse
		}
	}
}

// Recover turns a panic of bbolt, including a memory fault, into an error that wraps
// ErrDamaged. Use: defer Recover(&err)().
func Recover(err *error) func() {
	was := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(was)
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: %v", ErrDamaged, p)
		}
	}
}
