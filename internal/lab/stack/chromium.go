package stack

import (
	"fmt"
	"os/exec"
)

// FindChromium returns the path of the host's Chromium. The error wraps ErrMissing if
// there is none.
func FindChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot run chromium: %w", ErrMissing)
}

// ChromiumFlags returns the flags with which it runs without a screen, without network
// requests of its own, and as root too.
func ChromiumFlags() []string {
	return []string{"headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-dev-shm-usage",
		"disable-background-networking", "disable-component-update", "disable-sync", "disable-extensions", "hide-scrollbars"}
}
