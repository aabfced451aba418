package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sipwake/sipwake/internal/store/local"
	"github.com/sipwake/sipwake/internal/store/storetest"
	"github.com/sipwake/sipwake/internal/wake"
)

const damageUsers = 1500

// damageFile returns the bytes of a store with users, messages, notes and free pages.
func damageFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	s := open(t, path, storetest.Options{Outbox: 10_000})
	errs := make(chan error)
	for n := range damageUsers {
		go func() {
			_, err := s.Register(context.Background(), storetest.Registration(user(n), n))
			errs <- err
		}()
	}
	for range damageUsers {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for n := range 40 { // rewrites pages, so that some are free
		register(t, s, storetest.Registration(user(n*31), damageUsers+n))
		if err := s.Put(t.Context(), storetest.Message(n)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Claim(t.Context(), fmt.Sprint("claim", n), time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 { // the last states differ in nothing else
		register(t, s, storetest.Registration("last@example.com", 5000+n))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// damage flips bytes in some pages of the file that are in use, and returns those.
func damage(path string, seed uint64) ([]uint64, error) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	used, err := local.UsedPages(f)
	if err != nil {
		return nil, err
	}
	var hit []uint64
	for range 1 + rnd.IntN(3) {
		page := used[rnd.IntN(len(used))]
		if rnd.IntN(4) == 0 {
			page = used[rnd.IntN(min(len(used), 6))] // the roots are among the first
		}
		hit = append(hit, page)
		from, n := rnd.IntN(4096), 1+rnd.IntN(4)
		switch rnd.IntN(4) {
		case 0: // the head and the places of the elements
			from = rnd.IntN(256)
		case 1:
			from, n = 0, 4096
		}
		buf := make([]byte, min(n, 4096-from))
		at := int64(page)*4096 + int64(from)
		if _, err := f.ReadAt(buf, at); err != nil {
			return nil, err
		}
		for i := range buf {
			buf[i] ^= byte(1 + rnd.IntN(255))
		}
		if _, err := f.WriteAt(buf, at); err != nil {
			return nil, err
		}
	}
	return hit, nil
}

// childDamage opens a file, flips bytes under the running store if a seed is given,
// and then asks for everybody, registers everybody and prints who was found.
func childDamage(seed string) error {
	path := os.Getenv("SIPWAKE_TEST_PATH")
	s, err := local.New(local.Config{Path: path, Outbox: 10_000}, slog.New(slog.NewTextHandler(os.Stderr, nil)), nil)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(seed, 10, 64); err == nil {
		if _, err := damage(path, n); err != nil {
			return err
		}
	}
	ctx := context.Background()
	found := make(map[int]bool)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		failed := 0
		for n := range damageUsers {
			switch list, err := s.Bindings(ctx, wake.Query{AOR: user(n)}); {
			case err == nil && len(list) > 0:
				found[n] = true
			case err != nil && !errors.Is(err, wake.ErrUnavailable):
				return err
			case err != nil:
				failed++
			}
		}
		if failed == 0 {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("%d users cannot be asked for", failed)
		}
	}
	for n := range damageUsers {
		if found[n] {
			fmt.Println("found", n)
		}
	}
	var all error
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		all = damageUse(ctx, s)
		if all == nil || time.Now().After(end) {
			break
		}
	}
	if notice := s.Notice(); notice != "" {
		fmt.Println("notice", notice)
	}
	return errors.Join(all, s.Close())
}

// damageUse writes and reads all kinds of things; a page that is found to be damaged
// only now may refuse some of it once.
func damageUse(ctx context.Context, s *local.Store) error {
	errs := make(chan error)
	for n := range damageUsers {
		go func() {
			r := storetest.Registration(user(n), n)
			r.CSeq = uint32(time.Now().UnixMilli())
			_, err := s.Register(ctx, r)
			errs <- err
		}()
	}
	var all error
	for range damageUsers {
		all = errors.Join(all, <-errs)
	}
	all = errors.Join(all, s.Scan(ctx, func([]wake.Binding) error { return nil }), s.Put(ctx, storetest.Message(999)))
	_, dueErr := s.Due(ctx, time.Now().Add(time.Hour), time.Minute, 100)
	_, claimErr := s.Claim(ctx, fmt.Sprint(time.Now()), time.Hour)
	_, removeErr := s.Remove(ctx, wake.Removal{AOR: user(7), Reason: "operator"})
	_, bindErr := s.Register(ctx, storetest.Registration(user(7), 7))
	if all = errors.Join(all, dueErr, claimErr, removeErr, bindErr); all != nil {
		return all
	}
	for n := range damageUsers {
		if list, err := s.Bindings(ctx, wake.Query{AOR: user(n)}); err != nil || len(list) == 0 {
			return fmt.Errorf("user %d after his REGISTER: %d bindings, %w", n, len(list), err)
		}
	}
	return s.Ping(ctx)
}

// Whatever bytes are wrong, at the start or while it runs, the process lives; who is
// not on a damaged page is served; and everybody can register.
func TestDamagedPages(t *testing.T) {
	data := damageFile(t)
	trials := 14
	if n, err := strconv.Atoi(os.Getenv("SIPWAKE_TEST_TRIALS")); err == nil {
		trials = n
	}
	for seed := range uint64(trials) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "store.db")
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			copied := path + ".hit"
			if err := os.WriteFile(copied, data, 0o600); err != nil {
				t.Fatal(err)
			}
			hit, err := damage(copied, seed)
			if err != nil {
				t.Fatal(err)
			}
			running := ""
			if seed%2 == 0 {
				path = copied
			} else {
				running = fmt.Sprint(seed)
			}
			spared := local.UsersBeside(t, data, hit)
			cmd := child(t, "damage"+running, path)
			var log strings.Builder
			cmd.Stderr = &log
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("pages %v: %v\n%s%s", hit, err, tail(string(out)), tail(log.String()))
			}
			missing := 0
			for n := range damageUsers {
				if spared[user(n)] && !strings.Contains(string(out), fmt.Sprintf("found %d\n", n)) {
					missing++
				}
			}
			if missing > 0 {
				t.Errorf("pages %v: %d of %d users whose pages are whole were lost\n%s", hit, missing, len(spared), tail(log.String()))
			}
			if len(spared) < damageUsers && !strings.Contains(log.String(), "damaged and made anew") &&
				!strings.Contains(log.String(), "cannot be read") {
				t.Logf("pages %v: nothing was said", hit)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n > 5 {
				t.Errorf("%d errors in the log:\n%s", n, log.String())
			}
		})
	}
}

func tail(s string) string { return s[max(len(s)-3000, 0):] }

// A file that is no store is kept under another name, and the service begins.
func TestUnusableFile(t *testing.T) {
	for name, data := range map[string]string{
		"text": strings.Repeat("this is no database\n", 2000), "short": "x", "zeros": strings.Repeat("\x00", 1<<16),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "store.db")
			if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s, err := local.New(local.Config{Path: path}, slog.New(slog.NewTextHandler(&log, nil)), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = s.Close() }()
			register(t, s, storetest.Registration("alice@example.com", 1))
			aside, err := filepath.Glob(path + ".damaged-*")
			if err != nil || len(aside) != 1 {
				t.Fatal(aside, err)
			}
			kept, err := os.ReadFile(aside[0])
			if err != nil || string(kept) != data {
				t.Error("the file was not kept as it was", err)
			}
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), aside[0]) {
				t.Errorf("%d errors: %s", n, log.String())
			}
			if !strings.Contains(s.Notice(), aside[0]) {
				t.Errorf("notice %q", s.Notice())
			}
		})
	}
}

// No more damaged files are kept than some.
func TestDamagedFilesBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	for range 6 {
		if err := os.WriteFile(path, []byte("no store"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := open(t, path, storetest.Options{}).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if aside, err := filepath.Glob(path + ".damaged-*"); err != nil || len(aside) != 3 {
		t.Errorf("%d damaged files, %v", len(aside), err)
	}
}

// A bucket that has lost its name is known by what is in it.
func TestDamagedNames(t *testing.T) {
	data := damageFile(t)
	for _, name := range []string{"bindings", "tokens", "messages", "due", "shared", "claims", "meta"} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprint(name, running), func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "store.db")
				hit := bytes.ReplaceAll(data, []byte(name), []byte("x"+name[1:]))
				first := hit
				if running {
					first = data
				}
				if err := os.WriteFile(path, first, 0o600); err != nil {
					t.Fatal(err)
				}
				s := open(t, path, storetest.Options{Outbox: 10_000})
				if running {
					f, err := os.OpenFile(path, os.O_WRONLY, 0)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := f.WriteAt(hit, 0); err != nil {
						t.Fatal(err)
					}
					_ = f.Close()
				}
				for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
					_, messageErr := s.Due(t.Context(), time.Now().Add(time.Hour), time.Millisecond, 100)
					_, claimErr := s.Claim(t.Context(), fmt.Sprint(time.Now()), time.Hour)
					list, err := s.Bindings(t.Context(), wake.Query{AOR: user(1000)})
					if err = errors.Join(messageErr, claimErr, err); err == nil && len(list) == 1 && s.Notice() != "" {
						break
					}
					if time.Now().After(end) {
						t.Fatalf("%d bindings, notice %q, %v", len(list), s.Notice(), err)
					}
				}
				if m, found, err := s.Message(t.Context(), storetest.Message(3).ID); err != nil || !found {
					t.Error(m, err)
				}
				if list, err := s.Bindings(t.Context(), wake.Query{Token: storetest.Registration("", 1000).Address.Tokens[0].Value}); err != nil || len(list) != 1 {
					t.Errorf("by token: %d, %v", len(list), err)
				}
			})
		}
	}
}
