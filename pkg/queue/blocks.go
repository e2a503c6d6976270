package queue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.com/base-app/pkg/event"
	"github.com/minio/highwayhash"
)

// The server's files hold one record after the other:
//
//	length (its highest bit: there are headers) · sequence (its highest bits: a mark) · time · length of the subject ·
//	subject · [length of the headers] · headers and message · checksum
//
// A server that finds a bad record cuts off its file there, all that follows with it, and uses the sequences again.
// So the files are read before it does, and a bad record is taken out: the others stay.
const (
	recordHead  = 22 // up to the subject
	recordSum   = 8
	withHeaders = 1 << 31
	sequenceBit = 1<<62 - 1 // without the marks of erased messages and tombstones
	tombstone   = 1 << 62
	maxRecord   = 32 << 20
)

// damage is a place in a file that can't be read.
type damage struct {
	stream, file string
	at, bytes    int
	from, to     uint64 // the sequences that were there are among these; to is the first good one again
	id           string // of the first, if it can be read
	sequence     uint64 // of the first, if it can be trusted
	single       bool   // it is one record
	torn         bool   // the end of the last file: a write was cut short, which nobody had been told of
}

// block is one of the server's files.
type block struct {
	path, stream string
	data, kept   []byte // kept is nil while all is well
	sum          hash.Hash64
	damages      []damage
}

// tellEvery is how often the log says how far the reading is.
const tellEvery = 5 * time.Second

// filesSize is how many bytes there are to be read.
func filesSize(dir string) (n int64) {
	files, _ := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs", "*.blk"))
	for _, name := range files {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}

// reading is how far the files are read.
type reading struct {
	log       *slog.Logger
	done, all int64
	told      time.Time
}

func (r *reading) read(n int) {
	if r.done += int64(n); time.Since(r.told) > tellEvery {
		r.told = time.Now()
		r.log.Info("queue: the files are read, since the last end was not clean", "mib", r.done>>20, "of_mib", r.all>>20)
	}
}

// checkFiles reads all records of the server's streams, takes out what is damaged, and returns it. It ends with ctx,
// between two files.
func checkFiles(ctx context.Context, dir string, log *slog.Logger) ([]damage, error) {
	progress := &reading{log: log, all: filesSize(dir), told: time.Now()}
	streams, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*", "msgs"))
	if err != nil {
		return nil, err
	}
	var all []damage
	for _, s := range streams {
		found, err := checkStream(ctx, filepath.Base(filepath.Dir(s)), s, progress)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", s, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

// checkStream reads a stream's files in their order. What was damaged and deleted before is no loss.
func checkStream(ctx context.Context, stream, dir string, progress *reading) ([]damage, error) {
	var all []damage
	var last uint64
	deleted := map[uint64]bool{}
	files, err := blockFiles(dir)
	if err != nil {
		return nil, err
	}
	for i, number := range files {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b := &block{path: filepath.Join(dir, fmt.Sprintf("%d.blk", number)), stream: stream}
		if b.data, err = os.ReadFile(b.path); err != nil {
			return nil, err
		}
		progress.read(len(b.data))
		key := sha256.Sum256(fmt.Appendf(nil, "%s-%d", stream, number))
		if b.sum, err = highwayhash.NewDigest64(key[:]); err != nil {
			return nil, err
		}
		for j := range all { // what ended the file before ends before this one begins
			if all[j].to == 0 {
				all[j].close(b.firstSequence())
			}
		}
		last = b.check(last, deleted)
		if len(b.damages) > 0 {
			if err := b.rewrite(); err != nil {
				return nil, err
			}
			all = append(all, b.damages...)
		}
		if i == len(files)-1 {
			for j := range all {
				if torn := all[j].torn; all[j].to == 0 {
					all[j].close(max(last, all[j].from, all[j].sequence) + 1)
					all[j].torn = torn && !all[j].single
				}
			}
		}
	}
	for i := range all {
		for all[i].from < all[i].to && deleted[all[i].from] {
			all[i].from++
		}
	}
	return slices.DeleteFunc(all, func(d damage) bool { return d.from >= d.to }), nil
}

func blockFiles(dir string) ([]int, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.blk"))
	var numbers []int
	for _, name := range names {
		var n int
		if _, err := fmt.Sscanf(filepath.Base(name), "%d.blk", &n); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, err
}

// record is the length and sequence of the record at i; false if it is damaged.
func (b *block) record(i int) (length int, sequence uint64, ok bool) {
	if len(b.data)-i < recordHead+recordSum {
		return 0, 0, false
	}
	head := b.data[i : i+recordHead]
	size, subject := binary.LittleEndian.Uint32(head), int(binary.LittleEndian.Uint16(head[20:]))
	headers := size&withHeaders != 0
	length = int(size &^ withHeaders)
	text := subject
	if headers {
		text += 4
	}
	if length > maxRecord || length > len(b.data)-i || length < recordHead+text+recordSum {
		return 0, 0, false
	}
	body := b.data[i+recordHead : i+length-recordSum]
	b.sum.Reset()
	_, _ = b.sum.Write(head[4:20])
	_, _ = b.sum.Write(body[:subject])
	_, _ = b.sum.Write(body[text:])
	var sum [recordSum]byte
	if !bytes.Equal(b.sum.Sum(sum[:0]), b.data[i+length-recordSum:i+length]) {
		return 0, 0, false
	}
	return length, binary.LittleEndian.Uint64(head[4:]), true
}

// check walks through the file from the sequence before it, and returns the last one.
func (b *block) check(last uint64, deleted map[uint64]bool) uint64 {
	var open *damage
	for i := 0; i < len(b.data); {
		length, sequence, ok := b.record(i)
		if !ok {
			next := b.resume(i)
			if b.kept == nil {
				b.kept = append(make([]byte, 0, len(b.data)), b.data[:i]...)
			}
			if open != nil {
				open.close(last + 1)
			}
			b.damages = append(b.damages, b.damageAt(i, next, last))
			open = &b.damages[len(b.damages)-1]
			i = next
			continue
		}
		if b.kept != nil {
			b.kept = append(b.kept, b.data[i:i+length]...)
		}
		i += length
		if sequence&tombstone != 0 {
			deleted[sequence&sequenceBit] = true
			continue
		}
		if sequence &= sequenceBit; sequence > last {
			if last = sequence; open != nil {
				open.close(sequence)
				open = nil
			}
		}
	}
	return last
}

// damageAt describes what stands between i and next, after the sequence last.
func (b *block) damageAt(i, next int, last uint64) damage {
	d := damage{stream: b.stream, file: b.path, at: i, bytes: next - i, from: last + 1, id: b.idAt(i), torn: next == len(b.data)}
	if d.bytes > recordHead {
		d.single = int(binary.LittleEndian.Uint32(b.data[i:])&^withHeaders) == d.bytes
		d.sequence = binary.LittleEndian.Uint64(b.data[i+4:])
	}
	return d
}

// close sets the end of what is lost: the first good sequence again.
func (d *damage) close(to uint64) {
	d.to, d.torn = to, false
	if d.from <= d.sequence && d.sequence < to {
		if d.from = d.sequence; d.single {
			d.to = d.sequence + 1
		}
	}
}

// resume finds the next good record after a bad one: where that should end, or else where the next subject stands.
func (b *block) resume(i int) int {
	if rest := b.data[i:]; len(rest) >= 4 {
		next := i + int(binary.LittleEndian.Uint32(rest)&^withHeaders)
		if next > i && next < len(b.data) {
			if _, _, ok := b.record(next); ok {
				return next
			}
		}
	}
	prefix := []byte(subjectOf(b.stream, ""))
	for from := i + recordHead + 1; from < len(b.data); from++ {
		n := bytes.Index(b.data[from:], prefix)
		if n < 0 {
			break
		}
		from += n
		if _, _, ok := b.record(from - recordHead); ok {
			return from - recordHead
		}
	}
	return len(b.data)
}

// idAt reads the id of a damaged record, if it still stands where it was.
func (b *block) idAt(i int) string {
	if len(b.data)-i <= recordHead {
		return ""
	}
	n := int(binary.LittleEndian.Uint16(b.data[i+recordHead-2:]))
	subject := string(b.data[i+recordHead : min(i+recordHead+n, len(b.data))])
	if id, ok := strings.CutPrefix(subject, subjectOf(b.stream, "")); ok && event.CheckID(id) == nil {
		return id
	}
	return ""
}

func (b *block) firstSequence() uint64 {
	for i := 0; i < len(b.data); {
		length, sequence, ok := b.record(i)
		if !ok {
			i = b.resume(i)
			continue
		}
		if sequence&tombstone == 0 {
			return sequence & sequenceBit
		}
		i += length
	}
	return 0
}

// rewrite replaces the file by what is good of it.
func (b *block) rewrite() error {
	mended := b.path + ".mended"
	file, err := os.OpenFile(mended, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(b.kept)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return errors.Join(err, os.Remove(mended))
	}
	return os.Rename(mended, b.path)
}

// maxLost bounds how many sequences are told one by one.
const maxLost = 10_000

// tell logs what was found, and returns the sequences of the events that are lost.
func tell(log *slog.Logger, found []damage) (lost []uint64) {
	for _, d := range found {
		if d.torn {
			log.Warn("queue: the last record of a file was not written to its end, as happens when the power fails: it is taken out",
				"file", d.file, "at", d.at, "bytes", d.bytes, "id", d.id)
			continue
		}
		log.Error("queue: the disk has lost records: a file was damaged; the others in it are kept",
			"stream", d.stream, "file", d.file, "at", d.at, "bytes", d.bytes,
			"first_sequence", d.from, "last_sequence", d.to-1, "id", d.id)
		for s := d.from; d.stream == streamEvents && s < d.to && len(lost) < maxLost; s++ {
			lost = append(lost, s)
		}
	}
	return lost
}
