package alert

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"example.com/base-app/pkg/outbox"
)

// keptFiles is how many events stay. An event has at most 200 KiB, so that all have 10 MiB; mostly they have half a MiB.
const keptFiles = 50

// files keeps the newest events in the folder errors, where there is no Sentry. `app cleanup` removes old ones.
type files struct{ dir string }

func (f files) write(id string, at time.Time, body []byte) error {
	if err := f.put(id, at, body); err != nil {
		return outbox.Final(fmt.Errorf("write an event's file: %w", err))
	}
	return nil
}

func (f files) put(id string, at time.Time, body []byte) error {
	dir := filepath.Join(f.dir, "errors")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	name := at.UTC().Format("20060102T150405.000Z") + "-" + id[:8] + ".json"
	if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o600); err != nil {
		_ = os.Remove(filepath.Join(dir, name)) // half of it, on a full disk
		return err
	}
	list, err := filepath.Glob(filepath.Join(dir, "2*.json"))
	slices.Sort(list) // the names begin with the time
	for len(list) > keptFiles {
		err = errors.Join(err, os.Remove(list[0]))
		list = list[1:]
	}
	return err
}
