package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"example.com/base-app/pkg/config"
)

func TestASecretIsNeverPrinted(t *testing.T) {
	const hidden = "hunter2hunter2"
	type holder struct {
		Open   config.Secret
		closed config.Secret // fmt doesn't call the methods of this one
	}
	s := config.NewSecret(hidden)
	if s.Reveal() != hidden {
		t.Fatalf("Reveal returns %q", s.Reveal())
	}
	h := holder{s, s}
	var out bytes.Buffer
	for _, v := range []any{s, &s, h, &h, []config.Secret{s}, map[string]config.Secret{"k": s}, map[config.Secret]int{s: 1}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%10.3s"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		if b, err := json.Marshal(v); err != nil {
			t.Errorf("%T: %v", v, err)
		} else {
			out.Write(b)
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
	}
	for _, leak := range []string{hidden, fmt.Sprintf("%x", hidden), fmt.Sprintf("%X", hidden)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%q is in:\n%s", leak, out.String())
		}
	}
	if have := fmt.Sprintf("%v %s", s, config.Secret{}); have != "[redacted] " {
		t.Errorf("have %q", have)
	}
}

func TestSecretsComeFromFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("sentry_dsn", "mounted\n")
	token := file("token", "two\nlines \r\n")
	env := with("SHOP_TOKEN_FILE="+token, "SENTRY_DSN=mounted", "SHOP_TOKEN=two\nlines ")
	env.SecretsDir = dir
	var cfg Config
	if warnings, err := config.Load(&cfg, env); err != nil || len(warnings) > 0 {
		t.Fatalf("warnings %q, error %v", warnings, err)
	}
	if cfg.Sentry.DSN.Reveal() != "mounted" || cfg.Shop.Token.Reveal() != "two\nlines " {
		t.Errorf("have %q and %q", cfg.Sentry.DSN.Reveal(), cfg.Shop.Token.Reveal())
	}
}

func TestBadSecretFilesAreRefused(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const advice = "; write the path of a file that holds only the secret"
	largest := strings.Repeat("x", 64<<10)
	for _, c := range []struct{ name, path, want string }{
		{"missing", dir + "/none", dir + "/none: no such file or directory" + advice},
		{"folder", dir, dir + ": not a regular file" + advice},
		{"pipe without a writer", pipe, pipe + ": not a regular file" + advice},
		{"empty", file("empty", " \n"), dir + "/empty: empty" + advice},
		{"oversize", file("large", largest+"x"), dir + "/large: larger than 64KiB" + advice},
		{"secret instead of a path", "123456:ABCDEF", "not a path; write one that begins with / or ./ or ../"},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, with("SHOP_TOKEN_FILE="+c.path), "SHOP_TOKEN_FILE: "+c.want) })
	}
	t.Run("largest", func(t *testing.T) {
		var cfg Config
		_, err := config.Load(&cfg, with("SHOP_TOKEN_FILE="+file("largest", largest)))
		if err != nil || cfg.Shop.Token.Reveal() != largest {
			t.Errorf("%d bytes, error %v", len(cfg.Shop.Token.Reveal()), err)
		}
	})
	t.Run("not readable", func(t *testing.T) {
		if os.Getuid() == 0 {
			t.Skip("root reads every file")
		}
		path := file("locked", "x")
		if err := os.Chmod(path, 0); err != nil {
			t.Fatal(err)
		}
		refused(t, with("SHOP_TOKEN_FILE="+path), "SHOP_TOKEN_FILE: "+path+": permission denied"+advice)
	})
	t.Run("mounted", func(t *testing.T) {
		env := with()
		env.SecretsDir = dir
		path := file("shop_token", "")
		refused(t, env, "SHOP_TOKEN: "+path+": empty; mend the file or remove it")
	})
}

func TestSourcesThatDisagreeAreRefused(t *testing.T) {
	dir := t.TempDir()
	mounted := filepath.Join(dir, "shop_token")
	if err := os.WriteFile(mounted, []byte("mounted"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := with("SHOP_TOKEN=direct")
	refused(t, with("SHOP_TOKEN=direct", "SHOP_TOKEN_FILE="+other), "SHOP_TOKEN: SHOP_TOKEN_FILE and the environment disagree; keep one of them")
	env.SecretsDir = dir
	refused(t, env, "SHOP_TOKEN: "+mounted+" and the environment disagree; keep one of them")
	env.Vars = append(env.Vars, "SHOP_TOKEN_FILE="+other)
	refused(t, env, "SHOP_TOKEN: SHOP_TOKEN_FILE and "+mounted+" disagree; keep one of them\n"+
		"SHOP_TOKEN: SHOP_TOKEN_FILE and the environment disagree; keep one of them")
}

func TestASecretsFolderThatCannotBeSearchedIsAWarning(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(folder, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	env := with("SHOP_TOKEN=direct")
	env.SecretsDir = folder
	var cfg Config
	warnings, err := config.Load(&cfg, env)
	want := folder + ": not a directory; no secret is read from there"
	if err != nil || len(warnings) != 1 || warnings[0] != want || cfg.Shop.Token.Reveal() != "direct" {
		t.Errorf("want %q\nhave %q, error %v", want, warnings, err)
	}
}
