// Package backup keeps copies of the queue in files, and proves that a copy can be restored.
//
//	queue ─► Write ─► Save ─► BACKUP_DIR/queue-<UTC time>.backup ─► a second folder
//	                                     │
//	                       Verify ◄──────┴──────► Restore
//
// A backup is one tar archive, which can be read with the tools of every system:
//
//	EVENTS/head      the request that makes a server restore the stream
//	EVENTS/000001    … the output of Queue.Export, in pieces
//	…                the other streams, in the same way
//	manifest.json    when it was made, by which version, and what each stream holds: counts, sequences, a digest
//	SHA256           of all bytes before this entry, which is the last
//
// It promises that a file with the name of a backup is whole and on the disk: it is written under another name, synced,
// read again and compared with its checksum before it is renamed. A full disk, a target that vanishes and a kill leave the
// older backups as they were. It leaves the space free that the queue needs, and never writes to the files of a queue that
// it copies.
//
// A backup holds the events and their state. It holds no settings and secrets, and is not encrypted.
package backup

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/queue"
)

// Manifest describes the content of a backup.
type Manifest struct {
	Format  int             `json:"format"`
	Time    time.Time       `json:"time"` // when it was begun, UTC
	App     string          `json:"app"`
	Version string          `json:"version"`
	Streams []queue.Content `json:"streams"`
}

// Events returns how many events a restored queue would deliver, and how many dead letters it would hold.
func (m *Manifest) Events() (waiting, dead uint64) {
	for _, s := range m.Streams {
		switch s.Stream {
		case "EVENTS":
			waiting = s.Messages
		case "DEAD":
			dead = s.Messages
		}
	}
	return waiting, dead
}

// Lost returns how many messages the queue had lost to a damaged disk before it was copied.
func (m *Manifest) Lost() (n uint64) {
	for _, s := range m.Streams {
		n += s.Lost
	}
	return n
}

// Source is the queue that is copied: a queue.Queue, or queue.Files.
type Source interface {
	Export(ctx context.Context, begin func(stream string, head []byte) (io.Writer, error)) ([]queue.Content, error)
}

const (
	format       = 1
	nameHead     = "head"
	nameManifest = "manifest.json"
	nameSum      = "SHA256"
	// tailBytes is the length of the entry SHA256 with the end of the archive: a header, a block, two blocks of zeros.
	tailBytes = 4 * 512
)

// Write writes a backup of the source to w, with Time, App and Version as m says, and returns the whole manifest. It
// blocks as the source's Export does. After an error the bytes written are no backup, and Check refuses them.
func Write(ctx context.Context, w io.Writer, from Source, m Manifest) (Manifest, error) {
	m.Format, m.Time = format, m.Time.UTC()
	sum := sha256.New()
	a := &archive{sum: sum, tar: tar.NewWriter(io.MultiWriter(w, sum))}
	var err error
	if m.Streams, err = from.Export(ctx, a.begin); err != nil {
		return m, err
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return m, err
	}
	if err := a.entry(nameManifest, append(text, '\n')); err != nil {
		return m, err
	}
	if err := a.tar.Flush(); err != nil {
		return m, err
	}
	_, err = w.Write(tail(sum))
	return m, err
}

// archive is a backup that is being written.
type archive struct {
	sum    hash.Hash
	tar    *tar.Writer
	stream string
	pieces int
}

func (a *archive) begin(stream string, head []byte) (io.Writer, error) {
	a.stream, a.pieces = stream, 0
	return a, a.entry(path.Join(stream, nameHead), head)
}

// Write adds a piece of the present stream.
func (a *archive) Write(piece []byte) (int, error) {
	a.pieces++
	return len(piece), a.entry(fmt.Sprintf("%s/%06d", a.stream, a.pieces), piece)
}

func (a *archive) entry(name string, data []byte) error {
	if err := a.tar.WriteHeader(header(name, len(data))); err != nil {
		return err
	}
	_, err := a.tar.Write(data)
	return err
}

func header(name string, size int) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(size), Mode: 0o600, Format: tar.FormatUSTAR}
}

// tail returns the end of a backup whose bytes so far have the sum.
func tail(sum hash.Hash) []byte {
	var b strings.Builder
	w := tar.NewWriter(&b)
	text := hex.EncodeToString(sum.Sum(nil)) + "\n"
	_ = w.WriteHeader(header(nameSum, len(text))) // can't fail: it writes to a strings.Builder
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return []byte(b.String())
}

// errDamaged is the error of a file that is no backup, or a damaged one.
var errDamaged = errors.New("it is damaged, or was not written to its end")

// taker receives the streams of a backup, one after another.
type taker interface {
	begin(stream string, head []byte) error
	piece(data []byte) error
	end() error
}

// isStream returns whether s may be the name of a stream: it becomes a part of a request to the server.
func isStream(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 'A' || r > 'Z' })
}

// read reads a backup from its begin, passes the streams to t, and returns the manifest. The bytes that t gets are valid
// until t returns. It does not check the checksum, and r may hold anything.
func read(r io.Reader, t taker) (Manifest, error) {
	archive := tar.NewReader(r)
	var open string // the stream that is being read
	var seen []string
	pieces, buffer := 0, []byte(nil)
	for {
		h, err := archive.Next()
		if err != nil {
			return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
		stream, name := path.Split(h.Name)
		stream = strings.TrimSuffix(stream, "/")
		if h.Typeflag != tar.TypeReg || h.Size < 0 || h.Size > queue.MaxPiece {
			return Manifest{}, fmt.Errorf("%w: entry %q", errDamaged, h.Name)
		}
		buffer = slices.Grow(buffer[:0], int(h.Size))
		data := buffer[:h.Size]
		if _, err := io.ReadFull(archive, data); err != nil {
			return Manifest{}, fmt.Errorf("%w: %w", errDamaged, err)
		}
		if stream != open && open != "" {
			if err := t.end(); err != nil {
				return Manifest{}, err
			}
			open = ""
		}
		switch {
		case h.Name == nameManifest:
			var m Manifest
			if err := json.Unmarshal(data, &m); err != nil {
				return m, fmt.Errorf("%w: %s: %w", errDamaged, nameManifest, err)
			}
			if m.Format != format {
				return m, fmt.Errorf("it has the format %d, and this version reads %d", m.Format, format)
			}
			if len(m.Streams) != len(seen) {
				return m, fmt.Errorf("%w: %s names %d streams, and there are %d", errDamaged, nameManifest, len(m.Streams), len(seen))
			}
			return m, nil
		case name == nameHead && isStream(stream) && open == "" && !slices.Contains(seen, stream):
			open, pieces, seen = stream, 0, append(seen, stream)
			err = t.begin(stream, data)
		case open != "" && name == fmt.Sprintf("%06d", pieces+1):
			pieces++
			err = t.piece(data)
		default:
			err = fmt.Errorf("%w: unexpected entry %q", errDamaged, h.Name)
		}
		if err != nil {
			return Manifest{}, err
		}
	}
}
