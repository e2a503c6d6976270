package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// redacted is printed in place of a secret.
const redacted = "[redacted]"

// Secret is a text that prints as "[redacted]", or as nothing if it is empty, wherever it is printed: by fmt with any
// verb, by encoding/json, by slog, on its own or inside a struct. The zero value is empty.
//
// It holds a pointer because fmt doesn't call the methods of unexported fields: it would print a string. So == doesn't
// compare texts; compare what Reveal returns.
type Secret struct{ text *string }

// NewSecret returns text as a Secret.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{&text}
}

// Reveal returns the text itself.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String returns "[redacted]", or nothing if s is empty.
func (s Secret) String() string {
	if s.text == nil {
		return ""
	}
	return redacted
}

// Format prints String for every verb, %x and %#v too.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText returns String; it serves JSON too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue returns String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// UnmarshalText stores text as it is.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// fileSuffix ends the name of the variable that names a secret's file.
const fileSuffix = "_FILE"

// maxSecret bounds a secret's file, in bytes: no credential is larger, and a wrong path to a log must not fill the memory.
const maxSecret = 64 << 10

// findSecret returns the secret called name from its file or the environment, empty if there is none.
func (l *loader) findSecret(name string) string {
	var text string
	var first string // the source of text
	take := func(source, found string) {
		switch {
		case first == "":
			first, text = source, found
		case found != text:
			l.problem(name, "%s and %s disagree; keep one of them", first, source)
		}
	}
	if path := l.vars[name+fileSuffix]; path != "" {
		// Another value may be the secret itself, in the wrong variable: it must not be printed as a path.
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "./") && !strings.HasPrefix(path, "../") {
			l.problem(name+fileSuffix, "not a path; write one that begins with / or ./ or ../")
		} else if found, err := readSecret(path); err != nil {
			l.problem(name+fileSuffix, "%s: %v; write the path of a file that holds only the secret", shown(path), err)
		} else {
			take(name+fileSuffix, found)
		}
	}
	if path, ok := l.mounted(name); ok {
		if found, err := readSecret(path); err != nil {
			l.problem(name, "%s: %v; mend the file or remove it", shown(path), err)
		} else {
			take(path, found)
		}
	}
	if found := l.vars[name]; found != "" {
		take("the environment", found)
	}
	return text
}

// mounted returns the path of the secret in the secrets folder, and whether it exists. A folder that can't be searched is
// one warning, and counts as empty: some hosts have such a folder for other programs.
func (l *loader) mounted(name string) (string, bool) {
	if l.dir == "" {
		return "", false
	}
	path := filepath.Join(l.dir, strings.ToLower(name))
	_, err := os.Lstat(path)
	if err == nil {
		return path, true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		l.dir = ""
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %v; no secret is read from there", filepath.Dir(path), cause(err)))
	}
	return "", false
}

// readSecret returns the file's content, without one trailing newline. Its errors have neither path nor content.
func readSecret(path string) (string, error) {
	// Without O_NONBLOCK a pipe without a writer would block the start for ever.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", cause(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", cause(err)
	}
	if !info.Mode().IsRegular() {
		return "", errors.New("not a regular file")
	}
	content, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", cause(err)
	}
	if len(content) > maxSecret {
		return "", fmt.Errorf("larger than %s", Bytes(maxSecret))
	}
	text, cut := strings.CutSuffix(string(content), "\n")
	if cut {
		text = strings.TrimSuffix(text, "\r")
	}
	if strings.TrimSpace(text) == "" {
		return "", errors.New("empty")
	}
	return text, nil
}

// cause returns the reason of an error of package os, without the path.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
