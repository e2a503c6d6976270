package logging

import (
	"bytes"
	"cmp"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
)

// maxLine bounds a line, its end included: supervisord cuts what is longer than its buffer, and a pipe takes this
// much (PIPE_BUF) in one piece, so that lines of two processes don't mix.
const maxLine = 4096

// keptPage is how large the memory of one line may stay; a single huge value shall not be kept for ever.
const keptPage = 16 * maxLine

const truncatedKey = "truncated"

// identity is what is the same in each line of a process.
type identity struct {
	app  string
	rest []slog.Attr // device, version, commit, deployment: those that are known
}

// fields returns the attributes of alternating keys and values, without empty ones.
func fields(pairs ...string) []slog.Attr {
	var list []slog.Attr
	for i := 0; i < len(pairs); i += 2 {
		if v := name(pairs[i+1]); v != "" {
			list = append(list, slog.String(pairs[i], v))
		}
	}
	return list
}

// line is the content of a record on its way into one format.
type line struct {
	slog.Record // time, level and message
	worker      string
	attrs       []slog.Attr
}

// split takes a record of the front (its first attribute is the worker) apart.
func split(r slog.Record) line {
	l := line{Record: r, worker: noWorker, attrs: make([]slog.Attr, 0, r.NumAttrs()+1)} // one more: truncated
	r.Attrs(func(a slog.Attr) bool {
		if len(l.attrs) == 0 && a.Key == workerKey {
			l.worker = cmp.Or(name(a.Value.String()), noWorker)
		} else {
			l.attrs = append(l.attrs, a)
		}
		return true
	})
	return l
}

// format writes lines by a handler of somebody else's.
type format struct {
	arrange func(line) slog.Record // what that handler shall write
	finish  func([]byte) []byte    // its line made safe, nil if it is
	pages   sync.Pool              // of *page
	cut     *atomic.Uint64         // counts the lines that were too long
}

// anyLevel makes the handlers inside write whatever they are given: the front has decided.
const anyLevel = slog.Level(-1 << 30)

// page is a handler and the memory that it writes to, used by one goroutine at a time.
type page struct {
	bytes.Buffer
	handler slog.Handler
}

func newFormat(handler func(io.Writer) slog.Handler, arrange func(line) slog.Record, cut *atomic.Uint64) *format {
	f := &format{arrange: arrange, cut: cut}
	f.pages.New = func() any {
		p := &page{}
		p.handler = handler(p)
		return p
	}
	return f
}

// write calls use with l as one line of at most limit bytes, which is valid until use returns.
func (f *format) write(ctx context.Context, l line, limit int, use func([]byte) error) error {
	p := f.pages.Get().(*page)
	defer func() {
		if p.Cap() <= keptPage {
			f.pages.Put(p)
		}
	}()
	b, err := f.fit(ctx, p, l, limit)
	if err != nil {
		return err
	}
	return use(b)
}

// fit renders l. If that is too long it cuts all long values, to ever fewer bytes, then drops the last attributes,
// ever more of them. The end of that is a line of short names and the beginning of the message, which fits.
func (f *format) fit(ctx context.Context, p *page, l line, limit int) ([]byte, error) {
	if !clearlyOver(l, limit) {
		if b, err := f.render(ctx, p, l); err != nil || len(b) <= limit {
			return b, err
		}
	}
	f.cut.Add(1)
	short := l
	for _, n := range []int{3072, 2048, 1024, 512, 256, 128, 64, 16} {
		short.Message = cut(l.Message, n)
		short.attrs = append(cutAll(l.attrs, n), slog.Bool(truncatedKey, true))
		if b, err := f.render(ctx, p, short); err != nil || len(b) <= limit {
			return b, err
		}
	}
	for n := len(l.attrs) / 2; ; n /= 2 {
		short.attrs = append(cutAll(l.attrs[:n], 16), slog.Bool(truncatedKey, true))
		if b, err := f.render(ctx, p, short); err != nil || len(b) <= limit || n == 0 {
			return b, err
		}
	}
}

// clearlyOver spares the rendering of huge strings.
func clearlyOver(l line, limit int) bool {
	size := len(l.Message)
	for _, a := range l.attrs {
		if a.Value.Kind() == slog.KindString {
			size += len(a.Value.String())
		}
	}
	return size > limit
}

func (f *format) render(ctx context.Context, p *page, l line) ([]byte, error) {
	p.Reset()
	if err := p.handler.Handle(ctx, f.arrange(l)); err != nil {
		return nil, err
	}
	if f.finish == nil {
		return p.Bytes(), nil
	}
	return f.finish(p.Bytes()), nil
}

// output writes each record as one line, in one Write.
type output struct {
	format *format
	mu     sync.Mutex
	w      io.Writer
}

func (o *output) Enabled(context.Context, slog.Level) bool { return true }

func (o *output) Handle(ctx context.Context, r slog.Record) error {
	return o.format.write(ctx, split(r), maxLine, func(b []byte) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		_, err := o.w.Write(b)
		return err
	})
}

func (o *output) WithAttrs(attrs []slog.Attr) slog.Handler { return scoped{next: o}.WithAttrs(attrs) }
func (o *output) WithGroup(name string) slog.Handler       { return scoped{next: o}.WithGroup(name) }
