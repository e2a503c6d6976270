package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"example.com/base-app/pkg/fault"
	"example.com/base-app/pkg/queue"
)

// perMessage is how many bytes a message needs on disk beyond its content, with some room.
const perMessage = 64

// Verify restores the backup at path into a folder in dir, reads every message of it, and compares counts, sequences and
// the digest of the contents with the manifest. Then it removes the folder. It takes about as long as the backup did, and
// ends with ctx.
func Verify(ctx context.Context, path, dir string, log *slog.Logger) (m Manifest, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return m, target(err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return m, err
	}
	defer unlock()
	tmp, err := os.MkdirTemp(dir, scratch)
	if err != nil {
		return m, target(err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	return restore(ctx, path, tmp, log)
}

// Restore makes the queue's folder from the backup at path, and compares it as Verify does. The folder must be empty or
// missing, and not in use. After an error or a kill there is no folder. queue.Open opens it.
func Restore(ctx context.Context, path, folder string, log *slog.Logger) (m Manifest, err error) {
	entries, err := os.ReadDir(folder)
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return m, fault.Config("make DATA_DIR readable", err)
	case len(entries) > 0:
		return m, fault.Config("move it away first: mv "+folder+" "+folder+".old", fmt.Errorf("there is a queue in %s", folder))
	}
	parent := filepath.Dir(folder)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return m, fault.Config("make DATA_DIR writable", err)
	}
	if err := sweep(parent); err != nil {
		return m, err
	}
	tmp, err := os.MkdirTemp(parent, scratch)
	if err != nil {
		return m, fault.Config("make DATA_DIR writable", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }() // after the rename there is nothing
	if m, err = restore(ctx, path, tmp, log); err != nil {
		return m, err
	}
	if err := syncTree(tmp); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	if err := os.Rename(tmp, folder); err != nil {
		return m, fmt.Errorf("restore: %w", err)
	}
	return m, syncDir(parent)
}

// restore fills an empty folder and compares.
func restore(ctx context.Context, path, dir string, log *slog.Logger) (Manifest, error) {
	m, err := Check(path)
	if err != nil {
		return m, err
	}
	needed := uint64(0)
	for _, s := range m.Streams {
		needed += s.Bytes + perMessage*s.Messages
	}
	if err := room(dir, needed); err != nil {
		return m, err
	}
	files, err := queue.OpenFiles(ctx, dir, log)
	if err != nil {
		return m, err
	}
	defer files.Close()
	f, err := os.Open(path)
	if err != nil {
		return m, err
	}
	defer f.Close()
	defer forget(f)
	if _, err := read(f, &importer{ctx: ctx, files: files}); err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	have, err := files.Export(ctx, func(string, []byte) (io.Writer, error) { return io.Discard, nil })
	if err != nil {
		return m, err
	}
	if err := compare(m.Streams, have); err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return m, nil
}

func compare(want, have []queue.Content) error {
	if len(want) != len(have) {
		return fmt.Errorf("it has %d streams, %d were restored", len(want), len(have))
	}
	var err error
	for i, w := range want {
		w.Lost = 0 // the queue lost them, not the backup
		if h := have[i]; h != w {
			const format = "stream %s differs: the backup has %d messages, %d to %d of %d, digest %.8s; " +
				"restored are %d, %d to %d of %d, digest %.8s"
			err = errors.Join(err, fmt.Errorf(format, w.Stream, w.Messages, w.First, w.Last, w.Position, w.SHA256,
				h.Messages, h.First, h.Last, h.Position, h.SHA256))
		}
	}
	return err
}

// importer writes the streams of a backup to a queue's files.
type importer struct {
	ctx    context.Context // of the restoration, which is one call
	files  *queue.Files
	stream *queue.Import
}

func (i *importer) begin(stream string, head []byte) (err error) {
	i.stream, err = i.files.Import(i.ctx, stream, head)
	return err
}

func (i *importer) piece(data []byte) error { return i.stream.Write(i.ctx, data) }
func (i *importer) end() error              { return i.stream.End(i.ctx) }

// syncTree syncs a folder's files, which were written without a sync.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncDir(path) // works for files as well
	})
}
