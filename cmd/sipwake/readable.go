package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sipwake/sipwake/internal/config"
)

// account is a user of this machine, for file permissions.
type account struct {
	name   string
	uid    uint32
	groups map[uint32]bool
}

// lookupAccount returns the user with a name or number; false if there is none.
func lookupAccount(name string) (account, bool) {
	a := account{name: name, groups: map[uint32]bool{}}
	u, err := user.Lookup(name)
	if err != nil {
		id, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return a, false
		}
		a.uid = uint32(id)
		a.groups[a.uid] = true // as in a container
		return a, true
	}
	groups, _ := u.GroupIds() // the primary group is also in u
	for _, g := range append(groups, u.Gid) {
		if id, err := strconv.ParseUint(g, 10, 32); err == nil {
			a.groups[uint32(id)] = true
		}
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	a.uid = uint32(id)
	return a, err == nil
}

// may reports whether owner and mode of a file grant the account a permission, one of the
// bits rwx. It ignores access control lists.
func (a account) may(info os.FileInfo, bits os.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case !ok || a.uid == 0:
		return true
	case st.Uid == a.uid:
		mode >>= 6
	case a.groups[st.Gid]:
		mode >>= 3
	}
	return mode&bits == bits
}

// unreadable returns why the account cannot read the file, or "". It ignores files that
// cannot be examined: others report them.
func (a account) unreadable(path string) string {
	const read, enter = 4, 1
	full, err := filepath.Abs(path)
	if err == nil {
		full, err = filepath.EvalSymlinks(full)
	}
	if err != nil {
		return ""
	}
	for i, c := range full {
		if c != filepath.Separator {
			continue
		}
		dir := full[:max(i, 1)]
		if info, err := os.Stat(dir); err == nil && !a.may(info, enter) {
			return fmt.Sprintf("user %s cannot read %s: the directory %s is closed to it", a.name, path, dir)
		}
	}
	info, err := os.Stat(full)
	switch {
	case err != nil:
		return ""
	case info.IsDir() && !a.may(info, read|enter):
		return fmt.Sprintf("user %s cannot read %s: chgrp %s %s; chmod g+rx %s", a.name, path, a.name, path, path)
	case !info.IsDir() && !a.may(info, read):
		return fmt.Sprintf("user %s cannot read %s: chgrp %s %s; chmod g+r %s", a.name, path, a.name, path, path)
	}
	return ""
}

// unreadableFiles returns the files of the configuration that the account cannot read,
// with their places. It skips systemd credentials, which the account need not read.
func unreadableFiles(cfg *config.Config, a account) []string {
	var list []string
	handed := credentialsDir()
	for _, f := range cfg.Files() {
		if handed != "" && strings.HasPrefix(f.Path, handed) {
			continue
		}
		if text := a.unreadable(f.Path); text != "" {
			list = append(list, cfg.Place(f.Field, text))
		}
	}
	return list
}
