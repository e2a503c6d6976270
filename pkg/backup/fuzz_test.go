package backup

import (
	"archive/tar"
	"bytes"
	"testing"
)

func FuzzABackupIsReadWithoutHarm(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []struct{ name, data string }{{"EVENTS/head", "{}"}, {"EVENTS/000001", "x"}, {nameManifest, `{"format":1,"streams":[{}]}`}} {
		_ = w.WriteHeader(header(e.name, len(e.data)))
		_, _ = w.Write([]byte(e.data))
	}
	f.Add(b.Bytes())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		order := &ordered{t: t}
		if _, err := read(bytes.NewReader(data), order); err == nil && order.open {
			t.Error("a stream was not ended")
		}
		_, _ = check(bytes.NewReader(data))
	})
}

// ordered checks that streams come one after another.
type ordered struct {
	t    *testing.T
	open bool
}

func (o *ordered) begin(stream string, _ []byte) error {
	if o.open || !isStream(stream) {
		o.t.Errorf("stream %q begins while one is open: %v", stream, o.open)
	}
	o.open = true
	return nil
}

func (o *ordered) piece([]byte) error {
	if !o.open {
		o.t.Error("a piece of no stream")
	}
	return nil
}

func (o *ordered) end() error {
	if !o.open {
		o.t.Error("the end of no stream")
	}
	o.open = false
	return nil
}
