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
	"golang.org/x/sys/unix"
)

// WriteFiles is Write for the files of a queue whose app is down. It only reads them, and opens a copy in a scratch folder
// in dir, which Save locks and cleans up: a server that opened the files themselves would write, and drop more than what
// is damaged. The copy needs as much space for a while, unless the disk can share it. When copied is called, the files
// may be used again.
func WriteFiles(ctx context.Context, w io.Writer, folder, dir string, copied func(), m Manifest, log *slog.Logger) (_ Manifest, err error) {
	tmp, err := os.MkdirTemp(dir, scratch)
	if err != nil {
		return m, target(err)
	}
	defer func() { err = errors.Join(err, target(os.RemoveAll(tmp))) }()
	if err := copyTree(ctx, folder, tmp); err != nil {
		return m, fmt.Errorf("copy %s: %w", folder, err)
	}
	copied()
	files, err := queue.OpenFiles(ctx, tmp, log)
	if err != nil {
		return m, err
	}
	defer files.Close()
	return Write(ctx, w, files, m)
}

// copyTree copies the folders and files in from, which may be a link, to the folder to.
func copyTree(ctx context.Context, from, to string) error {
	tree := os.DirFS(from)
	left := uint64(0) // to be copied
	err := fs.WalkDir(tree, ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return source(err)
		}
		info, err := e.Info()
		if err == nil {
			left += uint64(info.Size())
		}
		return source(err)
	})
	if err != nil {
		return err
	}
	asked := false
	return fs.WalkDir(tree, ".", func(name string, e fs.DirEntry, err error) error {
		path := filepath.Join(to, name)
		switch {
		case err != nil:
			return source(err)
		case e.IsDir():
			return target(os.MkdirAll(path, 0o700))
		case !e.Type().IsRegular():
			return nil
		}
		in, err := tree.Open(name)
		if err != nil {
			return source(err)
		}
		defer in.Close()
		out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return target(err)
		}
		defer out.Close()
		if f, ok := in.(*os.File); ok && unix.IoctlFileClone(int(out.Fd()), int(f.Fd())) == nil {
			return nil
		}
		if !asked { // check first whether all fits
			if err := room(to, left); err != nil {
				return err
			}
			asked = true
		}
		_, err = io.Copy(&roomy{out, to}, &interruptible{ctx, in})
		return err
	})
}

// source returns the error of queue files that can't be read.
func source(err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Kind: fault.KindDependency, Hint: "look at DATA_DIR and its disk", Err: err}
}
