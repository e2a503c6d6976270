// Package event is the envelope that carries one event through the queue and from worker to worker: its identity and
// type, its place in the order, where it came from, and its body, which this package never looks into.
//
// On the wire it is a Protocol Buffers message, so that workers in other languages can read it:
//
//	syntax = "proto3";
//	message Event {
//	  string id          = 1;  // 1 to 128 characters of A-Z a-z 0-9 _ -
//	  uint64 sequence    = 2;  // position in the queue, from 1, without gaps at acceptance
//	  int64  time        = 3;  // when it was accepted, nanoseconds since 1970 UTC
//	  string request_id  = 4;  // of the HTTP request that brought it
//	  string traceparent = 5;  // W3C Trace Context
//	  string baggage     = 6;  // W3C Baggage
//	  uint32 delivery    = 7;  // how often it has been delivered, this time included
//	  bytes  receipt     = 8;  // opaque: given back to the queue to settle this delivery
//	  bytes  body        = 9;  // one JSON object
//	  string source      = 10; // who made the event; empty: unknown
//	  string type        = 11; // what kind of event it is; empty is a type, too
//	  int64  occurred    = 12; // when it happened, as its sender says, nanoseconds since 1970 UTC
//	  map<string, string> attributes = 13; // whatever else describes the event
//	}
//
// Source, type, occurred and attributes are what CloudEvents 1.0 calls source, type, time and extensions:
// https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md.
//
// Append writes without allocating beyond dst; Decode shares the bytes that it is given.
package event

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protowire"
)

// Event is one event with its envelope.
type Event struct {
	ID          string
	Type        string            // chooses the handler
	Sequence    uint64            // position in the queue
	Time        time.Time         // when it was accepted
	RequestID   string            // of the HTTP request that brought it
	TraceParent string            // W3C Trace Context
	Baggage     string            // W3C Baggage
	Delivery    uint32            // how often it has been delivered, this time included
	Receipt     []byte            // opaque: the queue's name for this delivery
	Body        []byte            // one JSON object
	Source      string            // who made it; empty: unknown
	Occurred    time.Time         // when it happened, as its sender says; zero: unknown
	Attributes  map[string]string // whatever else describes it; nil: nothing
}

// The fields' numbers, see the package comment.
const (
	fieldID protowire.Number = iota + 1
	fieldSequence
	fieldTime
	fieldRequestID
	fieldTraceParent
	fieldBaggage
	fieldDelivery
	fieldReceipt
	fieldBody
	fieldSource
	fieldType
	fieldOccurred
	fieldAttributes
)

// The fields of an entry of attributes: https://protobuf.dev/programming-guides/encoding/#maps.
const (
	fieldKey protowire.Number = iota + 1
	fieldValue
)

// MaxID is the longest id, in bytes: room for a UUID with a prefix, and still one token of a queue's subject.
const MaxID = 128

// NewID returns a new id: a UUID version 7 (RFC 9562), so that ids sort by time.
func NewID() string {
	id, err := uuid.NewV7()
	if err != nil { // only if the system has no randomness left
		return uuid.NewString()
	}
	return id.String()
}

// CheckID tells what is wrong with an id that a client chose.
func CheckID(id string) error {
	if id == "" || len(id) > MaxID {
		return fmt.Errorf("an id has 1 to %d characters, this one has %d", MaxID, len(id))
	}
	for _, r := range id {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return errors.New("an id has only letters, digits, - and _")
		}
	}
	return nil
}

// Bounds of what senders choose freely, in bytes. A type and a source are names, not texts.
const (
	MaxType   = 255
	MaxSource = 512
	// MaxAttributes is how many attributes an event may have, MaxAttributeName how long the name of one, and
	// MaxAttributeBytes how long all names and values together.
	MaxAttributes     = 32
	MaxAttributeName  = 20
	MaxAttributeBytes = 4 << 10
)

// CheckType returns what is wrong with a type. The empty type is sound.
func CheckType(s string) error { return checkText("type", s, MaxType) }

func checkText(what, s string, longest int) error {
	if len(s) > longest {
		return fmt.Errorf("a %s has at most %d bytes, this one has %d", what, longest, len(s))
	}
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("a %s is UTF-8 without control characters", what)
	}
	return nil
}

func checkAttributes(list map[string]string) error {
	if len(list) > MaxAttributes {
		return fmt.Errorf("an event has at most %d attributes, this one has %d", MaxAttributes, len(list))
	}
	size := 0
	for name, value := range list {
		size += len(name) + len(value)
		if name == "" || len(name) > MaxAttributeName || strings.ContainsFunc(name, notInName) {
			return fmt.Errorf("the name of an attribute has 1 to %d lower-case letters and digits", MaxAttributeName)
		}
		if err := checkText("value of an attribute", value, MaxAttributeBytes); err != nil {
			return err
		}
	}
	if size > MaxAttributeBytes {
		return fmt.Errorf("the attributes have at most %d bytes in all, these have %d", MaxAttributeBytes, size)
	}
	return nil
}

func notInName(r rune) bool { return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9') }

// MaxBaggage is the longest baggage, in bytes, that the W3C requires everyone to pass on.
const MaxBaggage = 8192

var traceParent = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// ValidTraceParent tells whether s has the form of a traceparent header: https://www.w3.org/TR/trace-context/.
func ValidTraceParent(s string) bool { return traceParent.MatchString(s) }

// ValidBaggage tells whether s may be passed on as a baggage header: https://www.w3.org/TR/baggage/.
func ValidBaggage(s string) bool { return len(s) <= MaxBaggage && printable(s) }

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// Check tells what is wrong with the envelope. What passes here can be decoded after Append, and the other way round.
func (e *Event) Check() error {
	if err := CheckID(e.ID); err != nil {
		return err
	}
	switch {
	case len(e.RequestID) > MaxID || !printable(e.RequestID):
		return errors.New("the request id is too long or not printable ASCII")
	case e.TraceParent != "" && !ValidTraceParent(e.TraceParent):
		return errors.New("the traceparent has not the form of W3C Trace Context")
	case !ValidBaggage(e.Baggage):
		return errors.New("the baggage is too long or not printable ASCII")
	}
	if err := CheckType(e.Type); err != nil {
		return err
	}
	if err := checkText("source", e.Source, MaxSource); err != nil {
		return err
	}
	return checkAttributes(e.Attributes)
}

// Size is what the event weighs in memory, in bytes, besides its fixed part.
func (e *Event) Size() int {
	n := len(e.ID) + len(e.Type) + len(e.Source) + len(e.RequestID) + len(e.TraceParent) + len(e.Baggage) + len(e.Receipt) + len(e.Body)
	for name, value := range e.Attributes {
		n += len(name) + len(value)
	}
	return n
}

// Append appends the encoded event to dst and returns the extended slice. Empty fields are left out.
func (e *Event) Append(dst []byte) []byte {
	dst = appendString(dst, fieldID, e.ID)
	dst = appendNumber(dst, fieldSequence, e.Sequence)
	dst = appendTime(dst, fieldTime, e.Time)
	dst = appendString(dst, fieldRequestID, e.RequestID)
	dst = appendString(dst, fieldTraceParent, e.TraceParent)
	dst = appendString(dst, fieldBaggage, e.Baggage)
	dst = appendNumber(dst, fieldDelivery, uint64(e.Delivery))
	dst = appendBytes(dst, fieldReceipt, e.Receipt)
	dst = appendBytes(dst, fieldBody, e.Body)
	dst = appendString(dst, fieldSource, e.Source)
	dst = appendString(dst, fieldType, e.Type)
	dst = appendTime(dst, fieldOccurred, e.Occurred)
	return appendAttributes(dst, e.Attributes)
}

// appendAttributes writes them in the order of their names, so that one event has one encoding.
func appendAttributes(dst []byte, list map[string]string) []byte {
	if len(list) == 0 {
		return dst
	}
	for _, name := range slices.Sorted(maps.Keys(list)) {
		entry := appendString(appendString(nil, fieldKey, name), fieldValue, list[name])
		dst = appendBytes(dst, fieldAttributes, entry)
	}
	return dst
}

func appendTime(dst []byte, n protowire.Number, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return appendNumber(dst, n, uint64(t.UnixNano()))
}

func appendString(dst []byte, n protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, n, protowire.BytesType), s)
}

func appendBytes(dst []byte, n protowire.Number, b []byte) []byte {
	if len(b) == 0 {
		return dst
	}
	return protowire.AppendBytes(protowire.AppendTag(dst, n, protowire.BytesType), b)
}

func appendNumber(dst []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, n, protowire.VarintType), v)
}

// Decode reads an encoded event. Receipt and Body share data's memory. Unknown fields are passed over, so that an
// older worker reads a newer one's events; known fields of a wrong type and a bad id are errors.
func Decode(data []byte) (Event, error) {
	var e Event
	for len(data) > 0 {
		n, typ, size := protowire.ConsumeTag(data)
		if size < 0 {
			return Event{}, fmt.Errorf("decode event: %w", protowire.ParseError(size))
		}
		data = data[size:]
		if size = e.field(n, typ, data); size < 0 {
			return Event{}, fmt.Errorf("decode event: field %d: %w", n, fieldError(size))
		}
		data = data[size:]
	}
	if err := e.Check(); err != nil {
		return Event{}, fmt.Errorf("decode event: %w", err)
	}
	return e, nil
}

// What field returns, besides protowire's own negative codes.
const (
	wrongType = -100 - iota
	tooLarge
	badEntry
)

func fieldError(code int) error {
	switch code {
	case wrongType:
		return errors.New("wrong wire type")
	case tooLarge:
		return errors.New("number too large")
	case badEntry:
		return errors.New("not a name with a value")
	}
	return protowire.ParseError(code)
}

// field reads one field and returns its size, or a negative code.
func (e *Event) field(n protowire.Number, typ protowire.Type, data []byte) int {
	switch n {
	case fieldSequence, fieldTime, fieldDelivery, fieldOccurred:
		if typ != protowire.VarintType {
			return wrongType
		}
		v, size := protowire.ConsumeVarint(data)
		if size < 0 {
			return size
		}
		return e.number(n, v, size)
	case fieldID, fieldRequestID, fieldTraceParent, fieldBaggage, fieldReceipt, fieldBody, fieldSource, fieldType, fieldAttributes:
		if typ != protowire.BytesType {
			return wrongType
		}
		v, size := protowire.ConsumeBytes(data)
		if size < 0 {
			return size
		}
		return e.bytes(n, v, size)
	}
	return protowire.ConsumeFieldValue(n, typ, data)
}

func (e *Event) number(n protowire.Number, v uint64, size int) int {
	switch n {
	case fieldSequence:
		e.Sequence = v
	case fieldTime:
		e.Time = timeOf(v)
	case fieldOccurred:
		e.Occurred = timeOf(v)
	case fieldDelivery:
		if v > 1<<32-1 {
			return tooLarge
		}
		e.Delivery = uint32(v)
	}
	return size
}

// timeOf reads a time; zero is the same as absent, as in all of proto3.
func timeOf(nanoseconds uint64) time.Time {
	if nanoseconds == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(nanoseconds)).UTC()
}

func (e *Event) bytes(n protowire.Number, v []byte, size int) int {
	switch n {
	case fieldReceipt:
		e.Receipt = v
	case fieldBody:
		e.Body = v
	case fieldID:
		e.ID = string(v)
	case fieldRequestID:
		e.RequestID = string(v)
	case fieldTraceParent:
		e.TraceParent = string(v)
	case fieldBaggage:
		e.Baggage = string(v)
	case fieldSource:
		e.Source = string(v)
	case fieldType:
		e.Type = string(v)
	case fieldAttributes:
		if !e.attribute(v) {
			return badEntry
		}
	}
	return size
}

// attribute reads one entry of attributes, and reports whether it is one.
func (e *Event) attribute(entry []byte) bool {
	var name, value string
	for len(entry) > 0 {
		n, typ, size := protowire.ConsumeTag(entry)
		if size < 0 || typ != protowire.BytesType {
			return false
		}
		text, length := protowire.ConsumeBytes(entry[size:])
		if length < 0 {
			return false
		}
		entry = entry[size+length:]
		switch n {
		case fieldKey:
			name = string(text)
		case fieldValue:
			value = string(text)
		}
	}
	if e.Attributes == nil {
		e.Attributes = map[string]string{}
	}
	e.Attributes[name] = value
	return true
}
