package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// ErrOther says that something answers at a node's URL, but not like the node.
var ErrOther = errors.New("something else answers at its url")

// otherError is an ErrOther with a text about the answer.
type otherError string

func (e otherError) Error() string { return string(e) }

func (otherError) Is(target error) bool { return target == ErrOther }

// NoAnswerError says that a proxy did not answer: nothing listens there, it cannot be
// reached, or it took too long.
type NoAnswerError struct{ Err error }

// Error implements error.
func (e *NoAnswerError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NoAnswerError) Unwrap() error { return e.Err }

// maxText bounds how much of an answer an error contains, in bytes.
const maxText = 120

// transportError returns err without the address that errors of package net contain. The
// result is a *NoAnswerError, an ErrOther with a text about the answer, or
// context.Canceled.
func transportError(err error) error {
	var (
		dns   *net.DNSError
		op    *net.OpError
		errno syscall.Errno
		name  x509.HostnameError
		cert  *tls.CertificateVerificationError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("it did not answer in time: %w", context.DeadlineExceeded)
	case errors.As(err, &dns):
		err = fmt.Errorf("its host cannot be looked up: %s", dns.Err)
	case errors.As(err, &name):
		err = errors.New("its certificate is for another host")
	case errors.As(err, &cert):
		err = fmt.Errorf("its certificate cannot be trusted: %w", cert.Err)
	case errors.As(err, &errno) && errors.As(err, &op) && op.Op == "dial":
		err = fmt.Errorf("it cannot be connected to: %w", errno)
	case errors.As(err, &errno):
		err = fmt.Errorf("the connection broke: %w", errno)
	case errors.As(err, &op):
		err = errors.New("the connection broke")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("it closed the connection without an answer")
	default:
		return otherError(fmt.Sprintf("%v: %.*s", ErrOther, maxText, err.Error()))
	}
	return &NoAnswerError{err}
}
