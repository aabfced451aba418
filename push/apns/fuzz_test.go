package apns

import (
	"os"
	"strings"
	"testing"

	"github.com/sipwake/sipwake/internal/lab/apnssim"
)

// credentials are one of each file that Apple gives.
func credentials(f *testing.F) (p8, p12, pem []byte) {
	f.Helper()
	sim, err := apnssim.Start(apnssim.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer sim.Close()
	dir := f.TempDir()
	key, err := sim.MakeKey(dir, "TEAM123456", "KEY1234567")
	if err != nil {
		f.Fatal(err)
	}
	p12File, pemFile, err := sim.MakeCertificate(dir, apnssim.Certificate{BundleID: "com.example.phone", Password: "password-of-p12"})
	if err != nil {
		f.Fatal(err)
	}
	read := func(file string) []byte {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		return text
	}
	return read(key), read(p12File), read(pemFile)
}

// quotes reports whether an error shows a line of a file that may be its secret.
func quotes(err error, contents []byte) bool {
	for line := range strings.Lines(string(contents)) {
		if line = strings.TrimSpace(line); len(line) >= 16 && !strings.Contains(line, "-----") && strings.Contains(err.Error(), line) {
			return true
		}
	}
	return false
}

func FuzzKey(f *testing.F) {
	p8, _, pem := credentials(f)
	f.Add(p8)
	f.Add(pem)
	f.Fuzz(func(t *testing.T, contents []byte) {
		key, err := parseKey(contents)
		switch {
		case err != nil && quotes(err, contents):
			t.Fatalf("%v quotes the file", err)
		case err == nil:
			if _, err := newSigner(key, "TEAM123456", "KEY1234567", noSkew()).bearer(); err != nil {
				t.Fatalf("a key that cannot sign: %v", err)
			}
		}
	})
}

func FuzzCertificate(f *testing.F) {
	_, p12, pem := credentials(f)
	f.Add(p12, "password-of-p12")
	f.Add(p12, "another")
	f.Add(pem, "")
	f.Fuzz(func(t *testing.T, contents []byte, password string) {
		cert, err := parseCertificate(contents, password)
		switch {
		case err != nil && (quotes(err, contents) || len(password) >= 16 && strings.Contains(err.Error(), password)):
			t.Fatalf("%v quotes the file or its password", err)
		case err == nil && (cert.Leaf == nil || cert.PrivateKey == nil || len(cert.Certificate) == 0):
			t.Fatalf("half a certificate: %+v", cert)
		case err == nil:
			certificateEnvironments(cert.Leaf)
		}
	})
}
