package stack

import (
	"context"
	"path/filepath"
	"syscall"
)

// StartProgram runs a program with its log in dir, NAME.log, and returns when ready
// succeeds. A nil ready succeeds at once.
func StartProgram(ctx context.Context, name, path, dir string, args []string, ready func(context.Context) error) (*Process, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	p, err := start(command{name: name, path: path, args: args, dir: dir, orphan: syscall.SIGKILL})
	if err != nil || ready == nil {
		return p, err
	}
	if err := p.waitReady(ctx, ready); err != nil {
		return nil, err
	}
	return p, nil
}
