package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sipwake/sipwake/internal/store/fallback"
	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/pagefile"
)

type dbCmd struct {
	Backup dbBackupCmd `cmd:"" help:"Have the running sipwake back up its embedded store."`
	Check  dbCheckCmd  `cmd:"" help:"Look at every page of a file that no sipwake has open: of the store, of traces or of the spool."`
	Rescue dbRescueCmd `cmd:"" help:"Write what can be read of a file into a new one."`
}

type dbBackupCmd struct {
	Config string `short:"c" default:"${config}" help:"Configuration file of the running sipwake (${default})." type:"path"`
	File   string `arg:"" optional:"" help:"Where to put the backup; without, it stays beside the store's file. It holds push tokens: only its owner can read it." type:"path"`
}

// backupPatience limits the time of a backup.
const backupPatience = 2*time.Minute + 10*time.Second

// Run prints where the backup is.
func (c *dbBackupCmd) Run() error {
	cl, err := newClient(c.Config)
	if err != nil {
		return err
	}
	cl.http.Timeout = backupPatience
	var res struct {
		File  string
		Bytes int64
	}
	if err := cl.call(context.Background(), "store.backup", map[string]any{}, &res); err != nil {
		return err
	}
	if c.File != "" {
		if err := copyFile(res.File, c.File); err != nil {
			return fmt.Errorf("the backup is %s, and cannot be copied: %w", res.File, err)
		}
		res.File = c.File
	}
	fmt.Printf("%s: %d bytes\n", res.File, res.Bytes)
	return nil
}

// copyFile makes a copy, which appears only when it is complete.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(to), ".backup-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { // has no effect after success: then it is closed and renamed
		_ = out.Close()
		_ = os.Remove(out.Name())
	}()
	_, err = io.Copy(out, in)
	if err == nil {
		err = errors.Join(out.Sync(), out.Close())
	}
	if err == nil {
		err = os.Rename(out.Name(), to)
	}
	return err
}

// dbPatience is how long to wait for a sipwake that is exiting to release its file.
const dbPatience = time.Second

// layoutOf returns the kind of the file, recognized by the buckets that could be read.
func layoutOf(r *pagefile.Report) (kind string, l pagefile.Layout) {
	if _, ok := r.Buckets["parts"]; ok {
		return "traces", local.TracesLayout()
	}
	if _, ok := r.Buckets["registrations"]; ok {
		return "spool", fallback.SpoolLayout()
	}
	return "store", local.Layout()
}

// openDB opens a file and returns what kind it is.
func openDB(file string) (f *os.File, v *pagefile.View, r pagefile.Report, kind string, l pagefile.Layout, err error) {
	f, v, r, err = pagefile.OpenChecked(file, dbPatience, pagefile.Layout{})
	if errors.Is(err, pagefile.ErrInUse) {
		err = fmt.Errorf("%w: sipwake db backup copies the file of a running sipwake", err)
	}
	if err == nil && f == nil {
		err = errors.New("it is not there, or empty")
	}
	if err != nil {
		if f != nil {
			_ = f.Close()
		}
		return nil, nil, r, "", l, fmt.Errorf("cannot read %s: %w", file, err)
	}
	kind, l = layoutOf(&r)
	if v != nil && r.OK() && l.Verify != nil {
		if err := errors.Join(l.Verify(v, &r), v.Err()); err != nil {
			r.Damaged, r.Problems = 1, []string{err.Error()}
		}
	}
	return f, v, r, kind, l, nil
}

type dbCheckCmd struct {
	File string `arg:"" help:"The file." type:"path"`
}

var errDamagedFile = errors.New("the file is damaged: sipwake makes it anew by itself when it starts; or sipwake db rescue FILE NEW")

// Run prints what is in the file. A damaged file is an error.
func (c *dbCheckCmd) Run() error {
	f, _, r, kind, _, err := openDB(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	fmt.Printf("%s: %s, %d pages, %d keys\n", c.File, kind, r.Pages, r.Elements)
	for _, name := range slices.Sorted(maps.Keys(r.Buckets)) {
		fmt.Printf("  %s: %d\n", printable(name), r.Buckets[name].Keys)
	}
	if r.OK() {
		return nil
	}
	for _, p := range r.Problems {
		fmt.Println(" ", p)
	}
	if more := r.Damaged - len(r.Problems); more > 0 {
		fmt.Printf("  and %d more\n", more)
	}
	return errDamagedFile
}

type dbRescueCmd struct {
	File string `arg:"" help:"The damaged file. It is not changed." type:"path"`
	New  string `arg:"" help:"File to write; it must not be there yet." type:"path"`
}

// Run prints what is in the new file.
func (c *dbRescueCmd) Run() error {
	if _, err := os.Lstat(c.New); err == nil {
		return fmt.Errorf("%s is there already", c.New)
	}
	f, v, r, kind, l, err := openDB(c.File)
	if err != nil {
		return err
	}
	defer f.Close()
	if v == nil {
		return fmt.Errorf("nothing of %s can be read: %s", c.File, r.Problems[0])
	}
	report, err := pagefile.Rescue(v, c.New, l)
	if err != nil {
		return fmt.Errorf("cannot rescue %s: %w", c.File, err)
	}
	fmt.Printf("%s: %s, %d problems, %d pages lost in part or whole, %d found that nothing pointed to\n",
		c.File, kind, report.Damaged, report.Lost, report.Found)
	after := dbCheckCmd{c.New}
	return after.Run()
}
