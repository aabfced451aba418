package local

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/store/pagefile"
)

// mend rebuilds the file while the service runs. The writer calls it.
func (s *Store) mend() error {
	if time.Since(s.mendFailed) < mendPause {
		return errMend
	}
	err := s.mendNow()
	if err != nil {
		s.mendFailed = time.Now()
		s.report(err)
	}
	return err
}

// mendPause is how long the writer waits before it retries a failed rebuild.
const mendPause = 10 * time.Second

var errMend = errors.New("it could not be made anew")

func (s *Store) mendNow() error {
	old := s.data.Load()
	v := pagefile.NewView(old.raw, *old.newest.Load())
	why := ""
	if report := v.Check(); !report.OK() {
		why = report.Problems[0]
	} else if err := errors.Join(verify(v, &report), complete(&report), v.Err(), old.current()); err != nil {
		why = err.Error()
	} else if !old.stuck.Load() {
		return nil // a single bad read by the disk, or it was mended meanwhile
	}
	f, err := pagefile.Replace(v, s.config.Path, why, Layout())
	if err != nil {
		return err
	}
	fresh, err := openNew(s.config.Path)
	if err != nil {
		return err
	}
	s.data.Store(fresh)
	_ = old.close()
	err = s.refreshes.load(s.read)
	s.rewrite()
	s.tell(*f)
	return err
}

// complete returns an error if a bucket is missing. That is allowed only before prepare.
func complete(report *pagefile.Report) error {
	for _, name := range buckets() {
		if _, ok := report.Buckets[string(name)]; !ok {
			return fmt.Errorf("%w: it has no %s", pagefile.ErrDamaged, name)
		}
	}
	return nil
}

// rewrite makes the writer write everything in memory again: the file may have lost it.
func (s *Store) rewrite() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for _, st := range sh.aors {
			for _, d := range st.Devices {
				if d.Gone {
					continue
				}
				d.Filed = [8]byte{}
				d.Change(true)
				s.writer.lazy(st)
				if h, err := store.ReadHead(d.Value); err == nil {
					s.writer.lazyTokens(s.index.restore(st.AOR, tokens(h)))
				}
			}
		}
		sh.mu.Unlock()
	}
}

// tell logs once that the file was damaged. From then on /readyz and a metric show it.
func (s *Store) tell(f pagefile.Found) {
	s.metrics.repairs.Inc()
	s.log.Error("the store's file was damaged and made anew: phones that are missing are known again with their next REGISTER; look at the disk, and delete the damaged file when nobody needs it",
		"what", f.What(), "file", s.config.Path, "damaged", f.Aside, "problem", f.Why, "problems", f.Report.Damaged,
		"pages_lost", f.Report.Lost, "pages_found", f.Report.Found)
	text := strings.Join([]string{"the store's file was damaged and made anew at", time.Now().UTC().Format(time.RFC3339) + ":", f.What() + ";",
		"the damaged one is", f.Aside}, " ")
	s.damage.Store(&text)
}

// Notice returns a notice for the operator, or "" if there is none. It says that the
// file was damaged since the start, although the store works.
func (s *Store) Notice() string {
	if p := s.damage.Load(); p != nil {
		return *p
	}
	return ""
}

// update is data.update, but it rebuilds a damaged file and then retries the write once.
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
