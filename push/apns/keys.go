package apns

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"github.com/sipwake/sipwake/internal/pnparam"
)

// parseKey reads the contents of Apple's .p8 file.
func parseKey(contents []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(contents)
	if block == nil {
		return nil, errors.New("is not a PKCS#8 ECDSA private key (it has no PEM block)")
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("is not a PKCS#8 ECDSA private key (PEM block is %s)", block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is not a PKCS#8 ECDSA private key (the PEM block is damaged)")
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("is not a PKCS#8 ECDSA private key (it holds %T)", key)
	}
	if ec.Curve != elliptic.P256() {
		return nil, fmt.Errorf("is not a P-256 key (its curve is %s)", ec.Curve.Params().Name)
	}
	return ec, nil
}

// parseCertificate reads a PKCS#12 or PEM file with a certificate and its key,
// in any order and with or without the chain.
func parseCertificate(contents []byte, password string) (tls.Certificate, error) {
	var (
		key   any
		certs []*x509.Certificate
		err   error
	)
	if bytes.Contains(contents, []byte("-----BEGIN ")) {
		key, certs, err = parsePEM(contents, password)
	} else {
		key, certs, err = parseP12(contents, password)
	}
	if err != nil {
		return tls.Certificate{}, err
	}
	private, ok := key.(crypto.Signer)
	if !ok {
		return tls.Certificate{}, errors.New("holds no private key")
	}
	public, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return tls.Certificate{}, fmt.Errorf("holds a private key of an unknown type %T", key)
	}
	out := tls.Certificate{PrivateKey: private}
	for _, c := range certs {
		if out.Leaf == nil && public.Equal(c.PublicKey) {
			out.Leaf = c
			out.Certificate = append([][]byte{c.Raw}, out.Certificate...)
			continue
		}
		out.Certificate = append(out.Certificate, c.Raw)
	}
	switch {
	case len(certs) == 0:
		return tls.Certificate{}, errors.New("holds no certificate")
	case out.Leaf == nil:
		return tls.Certificate{}, errors.New("holds a private key that belongs to none of its certificates")
	}
	return out, nil
}

func parseP12(contents []byte, password string) (any, []*x509.Certificate, error) {
	key, leaf, chain, err := pkcs12.DecodeChain(contents, password)
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, errors.New("cannot be decrypted: certificate_password is wrong")
	case err != nil:
		return nil, nil, fmt.Errorf("is neither PEM nor PKCS#12 with one key and its certificate: %w", err)
	}
	return key, append([]*x509.Certificate{leaf}, chain...), nil
}

func parsePEM(rest []byte, password string) (key any, certs []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			return key, certs, nil
		}
		switch {
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, fmt.Errorf("holds a damaged certificate: %w", err)
			}
			certs = append(certs, cert)
		case block.Type == "ENCRYPTED PRIVATE KEY":
			return nil, nil, errors.New("holds an encrypted PKCS#8 key, which only a .p12 file may have")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if key, err = parsePEMKey(block, password); err != nil {
				return nil, nil, err
			}
		}
	}
}

func parsePEMKey(block *pem.Block, password string) (any, error) {
	der := block.Bytes
	// RFC 1423 encryption is weak and therefore deprecated, but for years openssl
	// used it for Apple's certificates.
	if x509.IsEncryptedPEMBlock(block) { //nolint:staticcheck // see above
		var err error
		if der, err = x509.DecryptPEMBlock(block, []byte(password)); err != nil { //nolint:staticcheck // see above
			return nil, errors.New("holds a key that cannot be decrypted: certificate_password is wrong")
		}
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return nil, fmt.Errorf("holds a damaged private key (PEM block is %s)", block.Type)
}

// certificateTopics returns the topics that Apple wrote into a push certificate: the
// user ID of its subject, and those of an extension. It returns nil if there are
// none, as in a certificate from a lab's own CA.
func certificateTopics(leaf *x509.Certificate) []string {
	var (
		userID    = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
		extension = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 6}
		topics    []string
	)
	for _, name := range leaf.Subject.Names {
		if text, ok := name.Value.(string); ok && name.Type.Equal(userID) {
			topics = append(topics, text)
		}
	}
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(extension) {
			topics = append(topics, utf8Strings(ext.Value)...)
		}
	}
	return topics
}

// utf8Strings returns the UTF-8 strings of the sequence. They are topics; each is
// followed by a sequence that says what it is for.
func utf8Strings(der []byte) []string {
	var sequence []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &sequence); err != nil || len(rest) > 0 {
		return nil
	}
	var list []string
	for _, v := range sequence {
		if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagUTF8String {
			list = append(list, string(v.Bytes))
		}
	}
	return list
}

// certificateEnvironments derives from Apple's extensions for which environments a
// push certificate is valid. A certificate without them, from a lab's own CA, is
// valid for both.
func certificateEnvironments(leaf *x509.Certificate) []pnparam.Environment {
	var (
		sandbox    = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 1}
		production = asn1.ObjectIdentifier{1, 2, 840, 113635, 100, 6, 3, 2}
		envs       []pnparam.Environment
	)
	for _, ext := range leaf.Extensions {
		switch {
		case ext.Id.Equal(production):
			envs = append(envs, pnparam.Production)
		case ext.Id.Equal(sandbox):
			envs = append(envs, pnparam.Sandbox)
		}
	}
	if envs == nil {
		return []pnparam.Environment{pnparam.Production, pnparam.Sandbox}
	}
	return envs
}
