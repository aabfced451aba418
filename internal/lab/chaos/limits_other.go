//go:build unix && !linux

package chaos

import "errors"

func limitFiles(int, uint64) (uint64, error) { return 0, errors.ErrUnsupported }
