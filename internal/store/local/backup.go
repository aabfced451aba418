package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"

	"github.com/sipwake/sipwake/internal/store/pagefile"
	"github.com/sipwake/sipwake/internal/wake"
)

// BackupPath returns the path of the backup, next to the store's file.
func BackupPath(storePath string) string { return storePath + ".backup" }

// Backup copies one state of the file to a new file next to it, which replaces the last
// backup, and checks every page of the copy. Reads and writes continue meanwhile. It
// returns the path of the new file, which is complete and on disk, and its size in bytes.
// Only one backup runs at a time.
func (s *Store) Backup(ctx context.Context) (file string, size int64, err error) {
	if !s.backup.TryLock() {
		return "", 0, fmt.Errorf("cannot back up: %w: another backup is being written", wake.ErrUnavailable)
	}
	defer s.backup.Unlock()
	if file, err = filepath.Abs(BackupPath(s.config.Path)); err != nil {
		return "", 0, fmt.Errorf("cannot back up: %w: %w", wake.ErrUnavailable, err)
	}
	fresh := file + ".new"
	defer func() { _ = os.Remove(fresh) }()
	if err = s.copyTo(ctx, fresh); err == nil {
		size, err = sizeOfWhole(fresh)
	}
	if errors.Is(err, pagefile.ErrDamaged) {
		poke(s.writer.repair)
	}
	if err == nil {
		if err = os.Rename(fresh, file); err == nil {
			err = pagefile.SyncDir(filepath.Dir(file))
		}
	}
	if err != nil {
		return "", 0, fmt.Errorf("cannot back up: %w: %w", wake.ErrUnavailable, err)
	}
	return file, size, nil
}

// copyTo writes a state of the file as bbolt provides it.
func (s *Store) copyTo(ctx context.Context, to string) (err error) {
	f, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	d := s.data.Load()
	m, _, err := pagefile.ReadMetas(d.raw)
	if err != nil {
		return err
	}
	if newest := d.newest.Load(); m.Tx < newest.Tx { // another state may just have been written
		return pagefile.ErrDamaged
	}
	defer pagefile.Recover(&err)()
	err = d.db.View(func(tx *bbolt.Tx) error {
		_, err := tx.WriteTo(untilDone{ctx, f})
		return err
	})
	return errors.Join(err, f.Sync())
}

// untilDone is a file whose writes fail once ctx ends.
type untilDone struct {
	ctx context.Context
	f   *os.File
}

func (w untilDone) Write(b []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.f.Write(b)
}

// sizeOfWhole returns the size of a file that is not damaged.
func sizeOfWhole(path string) (int64, error) {
	f, _, report, err := pagefile.OpenChecked(path, time.Second, Layout())
	if err != nil {
		return 0, err
	}
	if f == nil || !report.OK() {
		return 0, fmt.Errorf("%w: %v", pagefile.ErrDamaged, report.Problems)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return fi.Size(), nil
}
