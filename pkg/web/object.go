package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	// maxDepth bounds the nesting of objects and arrays, with the outermost. Real events have under ten levels; consumers
	// that recurse fail at some unknown depth.
	maxDepth = 64
	// maxQuoted bounds what an error repeats of the input, in bytes.
	maxQuoted = 64
)

// CheckObject returns nil if b is exactly one JSON object, with nothing but white space around it. It is strict where
// parsers disagree (RFC 7493, I-JSON): UTF-8 without lone surrogates, no name twice in an object, nesting up to 64. It
// checks the grammar of numbers but not their range, since consumers differ there. The error says what is wrong and at
// which byte, counted from zero, and repeats at most 64 bytes of the input.
func CheckObject(b []byte) error {
	if at := tooDeep(b); at >= 0 {
		return fmt.Errorf("json: nested deeper than %d at byte %d", maxDepth, at)
	}
	if at := len(b) - len(bytes.TrimLeft(b, " \t\r\n")); at == len(b) {
		return errors.New("json: no value, only white space")
	} else if b[at] != '{' {
		return fmt.Errorf("json: an object is expected at byte %d", at)
	}
	if jsontext.Value(b).IsValid() {
		return nil
	}
	return explain(b)
}

// tooDeep returns the offset of the bracket that is one too many, -1 if there is none. In text that isn't JSON it may
// miscount; such text is refused anyway.
func tooDeep(b []byte) int {
	depth := 0
	quoted := false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return i
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return -1
}

// explain reads b again, slowly, and returns an error that says where it is wrong.
func explain(b []byte) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b))
	if _, err := d.ReadValue(); err != nil {
		return describe(err, len(b))
	}
	end := d.InputOffset()
	if _, err := d.ReadToken(); err != io.EOF {
		return fmt.Errorf("json: something follows the object, after byte %d", end)
	}
	return errors.New("json: malformed")
}

func describe(err error, length int) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("json: it ends within the object, at byte %d", length)
	}
	e, ok := errors.AsType[*jsontext.SyntacticError](err)
	if !ok {
		return errors.New("json: malformed")
	}
	if e.Err == jsontext.ErrDuplicateName {
		return fmt.Errorf("json: the name %s is there twice, at byte %d", quote(e.JSONPointer.LastToken()), e.ByteOffset)
	}
	return fmt.Errorf("json: %v at byte %d", e.Err, e.ByteOffset)
}

func quote(s string) string {
	if len(s) > maxQuoted {
		return strconv.Quote(s[:maxQuoted]) + "…"
	}
	return strconv.Quote(s)
}
