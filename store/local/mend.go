package local

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sipwake/sipwake/store"
	"github.com/sipwake/sipwake/store/pagefile"
)

// found is what was done about a damaged file.
type found struct {
	why    string // the first problem
	aside  string // where the damaged file is
	report pagefile.Report
	empty  bool // nothing of it could be read
}

// check looks at a file that no process has open, before bbolt trusts it. One that is
// damaged is set aside, and what can be read of it takes its place; an empty store
// does where that is nothing. nil says that all is well.
func check(path string) (*found, error) {
	raw, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer raw.Close()
	if fi, err := raw.Stat(); err != nil || fi.IsDir() || fi.Size() == 0 {
		if err == nil && fi.IsDir() {
			err = errIsDir
		}
		return nil, err
	}
	if err := lockFile(raw); err != nil {
		return nil, err
	}
	m, _, err := pagefile.ReadMetas(raw)
	if err != nil {
		aside, asideErr := setAside(path, "", time.Now())
		return &found{why: err.Error(), aside: aside, empty: true}, asideErr
	}
	v := pagefile.NewView(raw, m)
	report := checkView(v)
	if report.OK() {
		if newerFormat(v) {
			return nil, errFormat
		}
		if v.Err() == nil {
			return nil, nil
		}
		report.Problems = []string{v.Err().Error()}
	}
	return remake(v, path, report.Problems[0])
}

// checkView looks at every page, and at what the store itself counts.
func checkView(v *pagefile.View) pagefile.Report {
	report := v.Check()
	if m := report.Buckets[string(bucketMessages())]; uint64(m.Keys) != m.Sequence && report.OK() {
		report.Damaged++
		report.Problems = append(report.Problems, "the number of messages is wrong")
	}
	return report
}

// remake has what can be read of a damaged file take its place.
func remake(v *pagefile.View, path, why string) (*found, error) {
	fresh := path + ".rescued"
	report, err := rescue(v, fresh)
	if err != nil {
		return nil, fmt.Errorf("it is damaged (%s) and cannot be made anew: %w", why, err)
	}
	aside, err := setAside(path, fresh, time.Now())
	if err != nil {
		return nil, errors.Join(err, os.Remove(fresh))
	}
	return &found{why: why, aside: aside, report: report}, nil
}

// lockFile waits a moment for another process that has the file open.
func lockFile(f *os.File) error {
	for end := time.Now().Add(openPatience); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return errInUse
		}
	}
}

// newerFormat reports whether a newer sipwake wrote the file: what it says, unless it
// has bindings as this one writes them.
func newerFormat(v *pagefile.View) bool {
	r := reader{v}
	says := string(r.table(bucketMeta()).Get([]byte("format")))
	_, value := r.table(bucketBindings()).Cursor().First()
	return says > format && len(says) == 1 && says <= "9" && (len(value) == 0 || value[0] != store.Version)
}

// mend makes the file anew while the service runs. The writer calls it.
func (s *Store) mend() error {
	old := s.data.Load()
	v := pagefile.NewView(old.raw, *old.newest.Load())
	why := ""
	if report := checkView(v); !report.OK() {
		why = report.Problems[0]
	} else if err := errors.Join(v.Err(), old.current()); err != nil {
		why = err.Error()
	} else if !old.stuck.Load() {
		return nil // it has been read wrong once: the disk, or it was mended meanwhile
	}
	f, err := remake(v, s.config.Path, why)
	if err != nil {
		s.report(err)
		return err
	}
	fresh, err := openNew(s.config.Path)
	if err != nil {
		s.report(err)
		return err
	}
	s.data.Store(fresh)
	_ = old.close()
	s.rewrite()
	s.tell(*f)
	return nil
}

// rewrite has all that is in memory written again: the file may have lost it.
func (s *Store) rewrite() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, st := range sh.aors {
			for _, d := range st.devices {
				if d.gone {
					continue
				}
				d.change(true)
				s.writer.lazy(st)
				if hashes, err := tokens(d.value); err == nil {
					s.writer.lazyTokens(s.index.restore(st.aor, hashes))
				}
			}
		}
		sh.mu.Unlock()
	}
}

// tell says once, and from then on in /readyz and a metric, that the file was damaged.
func (s *Store) tell(f found) {
	s.metrics.repairs.Inc()
	what := "what could be read was copied"
	if f.empty {
		what = "nothing of it could be read, and the store began empty"
	}
	s.log.Error("the store's file was damaged and made anew: "+what+"; phones that are missing are known again with their next REGISTER; look at the disk, and delete the damaged file when nobody needs it",
		"file", s.config.Path, "damaged", f.aside, "problem", f.why, "problems", f.report.Damaged,
		"pages_lost", f.report.Lost, "pages_found", f.report.Found)
	text := strings.Join([]string{"the store's file was damaged and made anew at", time.Now().UTC().Format(time.RFC3339) + ":", what + ";",
		"the damaged one is", f.aside}, " ")
	s.damage.Store(&text)
}

// Notice returns what an operator should know though the store works, or nothing: that
// its file was damaged since the start.
func (s *Store) Notice() string {
	if p := s.damage.Load(); p != nil {
		return *p
	}
	return ""
}

// update is data.update. A file that is damaged is made anew, and the write tried once
// more.
func (s *Store) update(f func(tx *writeTx) error) error {
	err := s.data.Load().update(f)
	if errors.Is(err, pagefile.ErrDamaged) {
		if mendErr := s.mend(); mendErr != nil {
			return errors.Join(err, mendErr)
		}
		err = s.data.Load().update(f)
	}
	return err
}
