package backup_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/base-app/pkg/backup"
	"golang.org/x/sys/unix"
)

// crashed are the files of a queue with n events and one that was handled, without what only a clean end leaves behind.
func crashed(t *testing.T, n int) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "queue")
	err := realIn(t, dir, n).Close(inTime(t))
	summaries, globErr := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "index.db"))
	for _, s := range summaries {
		err = errors.Join(err, os.Remove(s))
	}
	if err := errors.Join(err, globErr); err != nil || len(summaries) == 0 {
		t.Fatalf("%v of %v", err, summaries)
	}
	return dir
}

// flip changes a bit in the record of the event e5.
func flip(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, "jetstream", "$G", "streams", "EVENTS", "msgs", "1.blk")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(data, []byte("events.e5"))
	if i < 0 {
		t.Fatal("e5 is not in the file")
	}
	data[i+20] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// sums are the digests of all files in a folder, with their times.
func sums(t *testing.T, folder string) map[string]string {
	t.Helper()
	have := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil || !e.Type().IsRegular() {
			have[path] = fmt.Sprint(info.ModTime())
			return err
		}
		data, err := os.ReadFile(path)
		have[path] = fmt.Sprintf("%x %v %v", sha256.Sum256(data), info.ModTime(), info.Mode())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return have
}

// fromFiles writes a backup of a folder as long as the copy, which is made in dir, is told before the first byte.
func fromFiles(t *testing.T, folder, dir string) func(io.Writer) error {
	return func(w io.Writer) error {
		var told bool
		_, err := backup.WriteFiles(inTime(t), &after{w, &told}, folder, dir, func() { told = true }, backup.Manifest{Time: day(1)}, nil)
		return err
	}
}

type after struct {
	io.Writer
	told *bool
}

func (a *after) Write(p []byte) (int, error) {
	if !*a.told {
		return 0, errors.New("the files are still held when the backup is written")
	}
	return a.Writer.Write(p)
}

func TestTheFilesOfAStoppedAppAreOnlyRead(t *testing.T) {
	for _, c := range []struct {
		name          string
		change        func(*testing.T, string)
		waiting, lost uint64
	}{
		{"whole", func(*testing.T, string) {}, 20, 0},
		{"a flipped bit", flip, 19, 1},
		{"a link", func(t *testing.T, folder string) {
			if err := errors.Join(os.Rename(folder, folder+".elsewhere"), os.Symlink(folder+".elsewhere", folder)); err != nil {
				t.Fatal(err)
			}
		}, 20, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder, dir := crashed(t, 20), t.TempDir()
			c.change(t, folder)
			if err := os.MkdirAll(filepath.Join(dir, ".scratch-1", "jetstream"), 0o700); err != nil { // of one that was killed
				t.Fatal(err)
			}
			before := sums(t, filepath.Dir(folder))
			for n := 1; n < 3; n++ {
				file, m, err := backup.Save(inTime(t), backup.Targets{Dir: dir, Keep: 1}, day(n), fromFiles(t, folder, dir))
				if waiting, _ := m.Events(); err != nil || waiting != c.waiting || m.Lost() != c.lost {
					t.Errorf("want %d events and %d lost, have %+v, %v", c.waiting, c.lost, m, err)
				}
				only(t, dir)
				if m, err := backup.Verify(inTime(t), file, dir, nil); err != nil {
					t.Errorf("want a good backup, have %+v, %v", m, err)
				}
			}
			if after := sums(t, filepath.Dir(folder)); !maps.Equal(before, after) {
				t.Errorf("want the files as they were\n%v, have\n%v", before, after)
			}
		})
	}
}

func TestACopyOfFilesEndsWithItsContextAndLeavesNothing(t *testing.T) {
	folder, dir := crashed(t, 1), t.TempDir()
	ctx, cancel := context.WithCancel(inTime(t))
	_, err := backup.WriteFiles(ctx, io.Discard, folder, dir, cancel, backup.Manifest{}, nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("want the end of the context, have %v", err)
	}
	only(t, dir)
	missing := func() { t.Error("nothing was copied") }
	if _, err := backup.WriteFiles(inTime(t), io.Discard, folder+".missing", dir, missing, backup.Manifest{}, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("want no such folder, have %v", err)
	}
	only(t, dir)
}

func TestFilesThatDoNotFitAreNotBegunWith(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", backup.Reserve+8<<20)); err != nil {
		t.Skipf("needs a small disk of its own, and mounting one: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	folder := t.TempDir()
	for i := range 3 { // each of them fits
		if err := errors.Join(os.WriteFile(filepath.Join(folder, fmt.Sprint(i)), nil, 0o600), os.Truncate(filepath.Join(folder, fmt.Sprint(i)), 4<<20)); err != nil {
			t.Fatal(err)
		}
	}
	_, err := backup.WriteFiles(inTime(t), io.Discard, folder, dir, func() { t.Error("nothing was copied") }, backup.Manifest{}, nil)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "12 are needed") {
		t.Errorf("want no room for all of it, have %v", err)
	}
	only(t, dir)
}
