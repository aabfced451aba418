// Package services runs the simulated push services together. It creates the credentials
// that Apple, Google and a browser's maker would issue, writes the part of sipwake's
// configuration that names them, makes services fail by name, and describes in words the
// pushes that they receive.
package services

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
	"github.com/sipwake/sipwake/internal/lab/fcmsim"
	"github.com/sipwake/sipwake/internal/lab/leak"
	"github.com/sipwake/sipwake/internal/lab/webpushsim"
)

// keyID is the ID of the simulated Apple's one key.
const keyID = "DEMOKEY123"

// Options of Services.
type Options struct {
	// APNs, FCM and WebPush are the addresses to listen on; default 127.0.0.1:0.
	APNs, FCM, WebPush string
	// OnPush is called with each push that a service receives, in the push's own
	// goroutine. It must not block. It may be nil.
	OnPush func(Push)
}

// Services are the running push services. Safe for concurrent use.
type Services struct {
	APNs    *apnssim.Server
	FCM     *fcmsim.Server
	WebPush *webpushsim.Server

	devices devices
}

// Start starts the three services. The caller must Close them.
func Start(o Options) (s *Services, err error) {
	s = &Services{}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.APNs, err = apnssim.Start(apnssim.Options{Address: o.APNs, OnPush: s.apple(o.OnPush)}); err != nil {
		return nil, err
	}
	if s.FCM, err = fcmsim.Start(fcmsim.Options{Address: o.FCM, OnPush: s.google(o.OnPush)}); err != nil {
		return nil, err
	}
	s.WebPush, err = webpushsim.Start(webpushsim.Options{Address: o.WebPush, OnPush: s.browser(o.OnPush)})
	return s, err
}

// Close ends the services and waits for them.
func (s *Services) Close() {
	if s.APNs != nil {
		s.APNs.Close()
	}
	if s.FCM != nil {
		s.FCM.Close()
	}
	if s.WebPush != nil {
		s.WebPush.Close()
	}
}

// Apps are the apps that the services know, by the names that phones use.
type Apps struct {
	Team    string   // of the iOS apps
	Bundles []string // IDs of the iOS apps
	Project string   // of Firebase
	// Packages are further names of the Firebase project, such as Android package names.
	Packages []string
}

// WriteConfig writes the apps' keys and the certificates to trust into dir, and returns
// the sections apns, fcm and webpush of sipwake's configuration. dir must be an absolute
// path if sipwake runs in another directory.
func (s *Services) WriteConfig(dir string, apps Apps) (string, error) {
	key, err := s.APNs.MakeKey(dir, apps.Team, keyID)
	if err != nil {
		return "", err
	}
	appleCA, err := s.APNs.WriteCA(dir)
	if err != nil {
		return "", err
	}
	account, err := s.FCM.MakeAccount(dir, apps.Project)
	if err != nil {
		return "", err
	}
	googleCA, err := s.FCM.WriteCA(dir)
	if err != nil {
		return "", err
	}
	vapid, err := writeVAPID(dir)
	if err != nil {
		return "", err
	}
	browserCA, err := s.WebPush.WriteCA(dir)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	text.WriteString("apns:\n")
	for _, bundle := range apps.Bundles {
		fmt.Fprintf(&text, "  - bundle_id: %s\n    team_id: %s\n    key_id: %s\n    key_file: %q\n    endpoint: %s\n    ca_file: %q\n",
			bundle, apps.Team, keyID, key, s.APNs.URL(), appleCA)
	}
	fmt.Fprintf(&text, "fcm:\n  - credentials_file: %q\n    endpoint: %s\n    ca_file: %q\n", account, s.FCM.URL(), googleCA)
	if len(apps.Packages) > 0 {
		fmt.Fprintf(&text, "    packages: [%s]\n", strings.Join(apps.Packages, ", "))
	}
	fmt.Fprintf(&text, "webpush:\n  vapid_key_file: %q\n  subject: mailto:operator@example.com\n  hosts: [%q]\n  ca_file: %q\n  allow_private: true\n",
		vapid, s.WebPush.Host(), browserCA)
	return text.String(), nil
}

// writeVAPID creates the key for Web Push subscriptions.
func writeVAPID(dir string) (file string, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("cannot make the VAPID key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("cannot encode the VAPID key: %w", err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	leak.Secret(string(text))
	file = filepath.Join(dir, "vapid.pem")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", fmt.Errorf("cannot write the VAPID key: %w", err)
	}
	return file, nil
}
