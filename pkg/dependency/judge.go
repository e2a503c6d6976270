package dependency

import (
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"slices"
	"syscall"
)

// mark is what Safe and Failure add to an error. It does not show in the error's text.
type mark struct {
	error
	safe, failed bool
}

func (m mark) Unwrap() error { return m.error }

// Safe marks err for a function that Dependency.Do calls: if err is a failure, the function may be called again, because
// it did nothing yet or because doing it twice does no harm. nil stays nil.
func Safe(err error) error {
	if err == nil {
		return nil
	}
	return mark{error: err, safe: true}
}

// Failure marks err, for a function that Dependency.Do calls, as the dependency's failure where Do can't know that: for
// example a database's "too many connections". nil stays nil.
func Failure(err error) error {
	if err == nil {
		return nil
	}
	return mark{error: err, failed: true}
}

func judge(err error) (safe, failed bool) {
	if err == nil {
		return false, false
	}
	failed = outside(err)
	for m, ok := errors.AsType[mark](err); ok; m, ok = errors.AsType[mark](m.error) {
		safe, failed = safe || m.safe, failed || m.failed
	}
	return safe, failed
}

// connection are the errors of a network, or of a peer that is not there. Other system errors, such as those of files,
// are the app's own.
var connection = []syscall.Errno{
	syscall.ECONNABORTED, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	syscall.ENETDOWN, syscall.ENETRESET, syscall.ENETUNREACH, syscall.ENOTCONN, syscall.EPIPE, syscall.ETIMEDOUT,
}

// outside returns whether err comes from the connection to the dependency.
func outside(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return true
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && slices.Contains(connection, errno) {
		return true
	}
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, driver.ErrBadConn)
}
