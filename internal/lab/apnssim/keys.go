package apnssim

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/sipwake/sipwake/internal/lab/leak"
)

// uidOID is the userid attribute (RFC 4519 section 2.39). It is only read.
var uidOID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}

// MakeKey creates a team's key like Apple, registers it, and writes the .p8 file into
// dir.
func (s *Server) MakeKey(dir, team, keyID string, topics ...string) (file string, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("cannot make key %q: %w", keyID, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("cannot encode key %q: %w", keyID, err)
	}
	s.AddKey(team, keyID, &private.PublicKey, topics...)
	file = filepath.Join(dir, "AuthKey_"+keyID+".p8")
	return file, writePEM(file, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Certificate describes a push certificate.
type Certificate struct {
	BundleID string
	// Topics are further topics of the certificate.
	Topics []string
	// Password of the .p12; the PEM file is never encrypted.
	Password string
	// Sandbox and Production are the environments of the certificate. Without either it
	// is valid for both, like that of a lab's own CA.
	Sandbox, Production bool
	// End of validity; default in a year.
	End time.Time
}

// MakeCertificate issues a push certificate and writes it with its key into dir,
// as PKCS#12 and as PEM.
func (s *Server) MakeCertificate(dir string, c Certificate) (p12, pemFile string, err error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return "", "", fmt.Errorf("cannot make key of certificate %q: %w", c.BundleID, err)
	}
	apple := func(last int) pkix.Extension {
		return pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, last}, Value: asn1.NullBytes}
	}
	var extensions []pkix.Extension
	if c.Sandbox {
		extensions = append(extensions, apple(1))
	}
	if c.Production {
		extensions = append(extensions, apple(2))
	}
	if len(c.Topics) > 0 {
		topics, err := topicsExtension(c.Topics)
		if err != nil {
			return "", "", fmt.Errorf("cannot encode topics of certificate %q: %w", c.BundleID, err)
		}
		extensions = append(extensions, topics)
	}
	subject := pkix.Name{
		CommonName: "Apple Push Services: " + c.BundleID,
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: slices.Clone(uidOID), Value: c.BundleID}},
	}
	cert, err := s.Authority().Client(subject, private.Public(), c.End, extensions...)
	if err != nil {
		return "", "", err
	}
	leak.Tokens(c.Password)
	pfx, err := pkcs12.Modern.Encode(private, cert, nil, c.Password)
	if err != nil {
		return "", "", fmt.Errorf("cannot encode certificate %q: %w", c.BundleID, err)
	}
	p12 = filepath.Join(dir, c.BundleID+".p12")
	if err := os.WriteFile(p12, pfx, 0o600); err != nil {
		return "", "", fmt.Errorf("cannot write certificate: %w", err)
	}
	pemFile = filepath.Join(dir, c.BundleID+".pem")
	return p12, pemFile, writePEM(pemFile,
		&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw},
		&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(private)})
}

// topicsExtension returns Apple's list of topics, each with its purpose.
func topicsExtension(topics []string) (pkix.Extension, error) {
	var sequence []asn1.RawValue
	for _, topic := range topics {
		sequence = append(sequence, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte(topic)},
			asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append([]byte{asn1.TagUTF8String, 3}, "app"...)})
	}
	der, err := asn1.Marshal(sequence)
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}, Value: der}, err
}

func writePEM(file string, blocks ...*pem.Block) error {
	var out []byte
	for _, b := range blocks {
		out = append(out, pem.EncodeToMemory(b)...)
	}
	leak.Secret(string(out))
	if err := os.WriteFile(file, out, 0o600); err != nil {
		return fmt.Errorf("cannot write key: %w", err)
	}
	return nil
}
