package backup

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"example.com/base-app/pkg/fault"
	"golang.org/x/sys/unix"
)

const (
	lockName = ".lock"
	partial  = ".partial" // ends the name of a file that is being written
	scratch  = ".scratch-"
	// Reserve is how many bytes must stay free on a disk: twice as many as the queue needs to accept events.
	Reserve = 128 << 20
	// timeFormat makes names that sort by time.
	timeFormat = "20060102T150405.000Z"
)

var fileName = regexp.MustCompile(`^queue-\d{8}T\d{6}\.\d{3}Z\.backup$`)

// Targets are the folders that backups are kept in.
type Targets struct {
	Dir    string // made if it is missing
	Second string // for a copy of each; empty: none. A missing folder is an error: its disk is not mounted
	Keep   int    // how many stay in each folder, the newest
}

// lock keeps other processes from using the folder dir for backups until the returned function is called, and removes the
// remains of backups that were killed. It doesn't wait: a folder in use is an error.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, target(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, &fault.Error{Kind: fault.KindUnhandled, Hint: "wait for it", Err: fmt.Errorf("another backup or verification uses %s", dir)}
		}
		return nil, target(err)
	}
	if err := sweep(dir); err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// sweep removes unfinished files and folders.
func sweep(dir string) error {
	var err error
	for _, pattern := range []string{"queue-*.backup" + partial, scratch + "*"} {
		list, globErr := filepath.Glob(filepath.Join(dir, pattern))
		err = errors.Join(err, globErr)
		for _, path := range list {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return target(err)
}

// Save writes the output of fill to a file in Dir, then a copy of it in Second, and removes the oldest of each. If the path
// that it returns is not empty, the file there is whole, even with an error: the second folder may have failed. It blocks
// until the files are on their disks; only fill and the copy end with ctx. A folder that another backup or verification
// uses is an error.
func Save(ctx context.Context, t Targets, now time.Time, fill func(io.Writer) error) (file string, m Manifest, err error) {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return "", m, target(err)
	}
	name := "queue-" + now.UTC().Format(timeFormat) + ".backup"
	made, m, err := add(t.Dir, name, t.Keep, fill)
	if !made {
		return "", m, err
	}
	file = filepath.Join(t.Dir, name)
	if t.Second != "" {
		_, _, copyErr := add(t.Second, name, t.Keep, func(w io.Writer) error { return copyFile(ctx, w, file) })
		if copyErr != nil {
			err = errors.Join(err, &fault.Error{Kind: fault.KindDependency, Op: "second copy",
				Hint: "look at BACKUP_SECOND_DIR; the first is whole: " + file, Err: copyErr})
		}
	}
	return file, m, err
}

// add puts a file into a folder, and removes the oldest.
func add(dir, name string, keep int, fill func(io.Writer) error) (made bool, m Manifest, err error) {
	unlock, err := lock(dir)
	if err != nil {
		return false, m, err
	}
	defer unlock()
	if m, err = put(dir, name, fill); err != nil {
		return false, m, err
	}
	return true, m, rotate(dir, name, keep)
}

// put writes a whole file; after an error there is none.
func put(dir, name string, fill func(io.Writer) error) (m Manifest, err error) {
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); err == nil {
		return m, target(fmt.Errorf("%s is there already", path))
	}
	f, err := os.OpenFile(path+partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return m, target(err)
	}
	defer func() {
		_ = f.Close() // the content is synced already
		if err != nil {
			_ = os.Remove(path + partial) // if that fails, the next backup removes it
		}
	}()
	if err := fill(&roomy{file: f, dir: dir}); err != nil {
		return m, err
	}
	if err := f.Sync(); err != nil {
		return m, target(err)
	}
	forget(f)
	if m, err = Check(path + partial); err != nil {
		return m, err
	}
	if err := os.Rename(path+partial, path); err != nil {
		return m, target(err)
	}
	return m, target(syncDir(dir))
}

// forget drops the file from the kernel's cache: the next read comes from the disk, and the app's pages stay cached.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }

// roomy is a file that refuses to use the last space on its disk.
type roomy struct {
	file *os.File
	dir  string
}

func (r *roomy) Write(p []byte) (int, error) {
	if err := room(r.dir, uint64(len(p))); err != nil {
		return 0, err
	}
	n, err := r.file.Write(p)
	return n, target(err)
}

// room returns an error if n more bytes don't fit into dir.
func room(dir string, n uint64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return target(fmt.Errorf("statfs %s: %w", dir, err))
	}
	if free := s.Bavail * uint64(s.Bsize); free < Reserve+n {
		return &fault.Error{Kind: fault.KindDependency, Hint: "free some space, or set BACKUP_KEEP or BACKUP_DIR",
			Err: fmt.Errorf("%s: %d MiB are free, %d are needed, and %d stay in reserve: %w", dir, free>>20, n>>20, Reserve>>20, syscall.ENOSPC)}
	}
	return nil
}

// target returns the error of a folder for backups that can't be used.
func target(err error) error {
	if err == nil {
		return nil
	}
	return &fault.Error{Kind: fault.KindDependency, Hint: "look at BACKUP_DIR and its disk", Err: err}
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func copyFile(ctx context.Context, w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return target(err)
	}
	defer f.Close()
	defer forget(f)
	_, err = io.Copy(w, &interruptible{ctx, f})
	return err
}

// interruptible is a reader that ends with a context.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if err := context.Cause(i.ctx); err != nil {
		return 0, err
	}
	return i.Reader.Read(p)
}

// List returns the backups in dir, the oldest first.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, target(err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() && fileName.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// rotate removes the oldest backups, but never the one that was just made: the clock may have been wrong.
func rotate(dir, made string, keep int) error {
	names, err := List(dir)
	if err != nil {
		return err
	}
	names = slices.DeleteFunc(names, func(name string) bool { return name == made })
	for len(names) > max(keep-1, 0) {
		if removeErr := os.Remove(filepath.Join(dir, names[0])); removeErr != nil {
			err = errors.Join(err, removeErr)
		}
		names = names[1:]
	}
	return target(err)
}

// Check reads the whole file at path, compares it with its checksum, and returns its manifest.
func Check(path string) (Manifest, error) {
	f, err := os.Open(path)
	if err != nil {
		return Manifest{}, err
	}
	defer f.Close()
	defer forget(f)
	m, err := check(f)
	if err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return m, nil
}

func check(f io.ReadSeeker) (Manifest, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return Manifest{}, err
	}
	if size <= tailBytes {
		return Manifest{}, errDamaged
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, f, size-tailBytes); err != nil {
		return Manifest{}, err
	}
	end, err := io.ReadAll(f)
	if err != nil {
		return Manifest{}, err
	}
	if !slices.Equal(end, tail(sum)) {
		return Manifest{}, fmt.Errorf("%w: the checksum is not that of the contents", errDamaged)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return Manifest{}, err
	}
	return read(f, nowhere{})
}

// nowhere drops the streams.
type nowhere struct{}

func (nowhere) begin(string, []byte) error { return nil }
func (nowhere) piece([]byte) error         { return nil }
func (nowhere) end() error                 { return nil }
