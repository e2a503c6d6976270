package queue

import (
	"bytes"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats-server/v2/server/archive"
)

// copyWith is the copy of a stream, written as the server does.
func copyWith(t testing.TB, entries ...*archive.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := s2.NewWriter(&b)
	w := archive.NewWriter(enc)
	write := func(h *archive.Header, data string) {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	state := `{"messages":2,"first_seq":3,"last_seq":9}`
	write(&archive.Header{Name: "state.json", PayloadSize: int64(len(state))}, state)
	for _, e := range entries {
		e.PayloadSize = int64(len("body"))
		write(e, "body")
	}
	write(&archive.Header{}, "")
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestACopyIsReadToItsEndOrIsAnError(t *testing.T) {
	whole := copyWith(t, &archive.Header{Name: "events.a", Sequence: 3}, &archive.Header{Name: "events.b", Sequence: 7})
	c, gaps, err := readContent(bytes.NewReader(whole))
	if err != nil || c.Messages != 2 || c.First != 3 || c.Last != 7 || c.Position != 9 || c.Bytes != 24 || !slices.Equal(gaps, []gap{{4, 6}, {8, 9}}) {
		t.Errorf("want messages 3 and 7 and what is between and after, have %+v, %v, %v", c, gaps, err)
	}
	for n := range len(whole) {
		if c, _, err := readContent(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("cut after %d bytes: want an error, have %+v", n, c)
		}
	}
	if _, _, err := readContent(bytes.NewReader(copyWith(t, &archive.Header{Sequence: 3}, &archive.Header{Sequence: 3}))); err == nil {
		t.Error("want an error when a sequence comes twice")
	}
}

func FuzzACopyIsReadWithoutHarm(f *testing.F) {
	f.Add(copyWith(f, &archive.Header{Name: "events.a", Sequence: 3}))
	f.Add([]byte(archive.MagicBytes))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = readContent(bytes.NewReader(data))
		// The fuzzer doesn't find its way through S2's checksums by itself.
		var b bytes.Buffer
		w := s2.NewWriter(&b)
		if _, err := w.Write(append([]byte(archive.MagicBytes), data...)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		_, _, _ = readContent(&b)
	})
}
