// Package config fills one struct from the environment, strictly. It reports all problems at once; each names the setting
// and says what to write. It never repeats a value, since the value may be a secret in the wrong place.
//
// A setting is a field with tags. A fork composes its struct from the template's and its own; names are global,
// however deep the struct that holds them:
//
//	type Config struct {
//		base.Settings                        // embedded: its fields are settings too
//		Shop struct {
//			URL     string        `envconfig:"SHOP_URL" required:"true" desc:"where orders go"`
//			Timeout time.Duration `envconfig:"SHOP_TIMEOUT" default:"5s" min:"1s" max:"1m" desc:"per order"`
//			Token   config.Secret `envconfig:"SHOP_TOKEN" desc:"from the shop's settings page"`
//		} `group:"SHOP"`
//	}
//
//	envconfig  the variable's name, A-Z, digits and _ (required)
//	desc       what it means, shown to people (required)
//	default    the value of an unset or empty variable; if it is not a constant this is empty, and desc describes it
//	required   "true": unset and empty are refused
//	min, max   bounds of numbers, durations and sizes, inclusive; a duration without min is never negative
//	oneof      the words that are allowed, separated by spaces, in any case
//	group      on any field, nested struct or blank: all names that begin with GROUP_ are ours, see below
//	ignored    "true": not a setting
//
// A field is a string, a bool, a number, a time.Duration, a Bytes, a Secret, anything with UnmarshalText, or a slice
// of those (separated by commas). If a struct has a method Validate() error, it is called when all fields of the struct are
// valid; each line of its error is one problem and begins with a setting's name.
//
// A Secret called NAME can also come from the file that NAME_FILE names, or from /run/secrets/name (lower case). A file
// goes before the variable; two sources with different values are an error.
//
// A variable whose name begins with a group but is no setting is refused, with the nearest name. Variables that Kubernetes
// sets for services (WEB_SERVICE_HOST, WEB_PORT_80_TCP) are ignored. Groups are declared, not derived: DATA_DIR doesn't
// make DATA_ ours. A name outside the groups that is close to one of ours is only a warning.
//
// The package reads no files but secrets, has no state, and never changes the environment.
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"example.com/base-app/pkg/fault"
)

// Environment is the source of the settings.
type Environment struct {
	Vars       []string // NAME=value, as os.Environ returns them; of two equal names the first counts
	SecretsDir string   // where secrets are mounted, one file for each; empty: there are none
}

// secretsDir is where Docker and Podman mount secrets.
const secretsDir = "/run/secrets"

// OS returns the environment of this process.
func OS() Environment { return Environment{Vars: os.Environ(), SecretsDir: secretsDir} }

// Names returns the names of the variables, sorted, without their values.
func (e Environment) Names() []string {
	var names []string
	for name := range e.table() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (e Environment) table() map[string]string {
	table := make(map[string]string, len(e.Vars))
	for _, entry := range e.Vars {
		name, value, ok := strings.Cut(entry, "=")
		if _, twice := table[name]; ok && name != "" && !twice {
			table[name] = value
		}
	}
	return table
}

// hint is the hint of every error.
const hint = "every setting is listed in docs/settings.md and by the command `config`"

// Load fills the struct that into points to. A field without a variable and without a default keeps its value.
// On an error the struct is as it was.
//
// The warnings are about names that look like misspelt settings, and a secrets folder that can't be searched. The error
// joins all problems, one line each, sorted, and has the kind fault.KindConfig. An error without a kind means that the
// struct itself is wrong: a mistake in the program.
func Load(into any, env Environment) (warnings []string, err error) {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: load: %T is not a pointer to a struct", into)
	}
	fresh := reflect.New(target.Type().Elem())
	fresh.Elem().Set(target.Elem())
	s, err := inspect(fresh)
	if err != nil {
		return nil, err
	}
	l := loader{schema: s, vars: env.table(), dir: env.SecretsDir}
	l.fill()
	l.names()
	l.validate()
	slices.Sort(l.warnings)
	if len(l.problems) > 0 {
		return l.warnings, fault.Config(hint, joined(l.problems))
	}
	target.Elem().Set(fresh.Elem())
	return l.warnings, nil
}

// loader is one call of Load.
type loader struct {
	schema
	vars     map[string]string
	dir      string
	problems []string
	warnings []string
	given    []string  // every value that was given, to remove them from errors of a fork
	bad      []uintptr // addresses of the fields that have a problem
}

func (l *loader) problem(name, format string, args ...any) {
	l.problems = append(l.problems, name+": "+fmt.Sprintf(format, args...))
}

func (l *loader) fill() {
	for _, s := range l.settings {
		before := len(l.problems)
		text := l.find(s)
		if text != "" {
			l.given = append(l.given, text)
		} else {
			text = s.fallback
		}
		switch {
		case len(l.problems) > before:
		case text != "":
			if err := s.set(s.field, text); err != nil {
				l.problem(s.name, "%s", err)
			}
		case s.required:
			l.problem(s.name, "required, but not set or empty; set it: %s", s.desc)
		}
		if len(l.problems) > before {
			l.bad = append(l.bad, s.field.UnsafeAddr())
		}
	}
}

// find returns the value that was given for s, empty if none.
func (l *loader) find(s setting) string {
	if s.secret() {
		return l.findSecret(s.name)
	}
	return l.vars[s.name]
}

// validator is the method that a settings struct may have.
type validator interface{ Validate() error }

// validate calls Validate on each struct whose fields are all valid: its errors about a struct that is only half filled
// would mislead people.
func (l *loader) validate() {
	for _, v := range l.structs {
		start, end := v.UnsafeAddr(), v.UnsafeAddr()+v.Type().Size()
		inside := func(field uintptr) bool { return start <= field && field < end }
		judge, ok := v.Addr().Interface().(validator)
		if !ok || slices.ContainsFunc(l.bad, inside) {
			continue
		}
		err := judge.Validate()
		if err == nil {
			continue
		}
		for line := range strings.Lines(l.scrub(err.Error())) {
			if line = strings.TrimSpace(line); line != "" {
				l.problems = append(l.problems, line)
			}
		}
	}
}

// minScrub is the length from which a value is removed from a fork's error: a shorter one is more often a word of the text
// than a secret.
const minScrub = 4

// scrub removes the given values from the text of a fork's error, the longest first, so that no rest remains of a value
// that contains another.
func (l *loader) scrub(text string) string {
	values := slices.Clone(l.given)
	slices.SortFunc(values, func(a, b string) int { return len(b) - len(a) })
	for _, value := range values {
		if len(value) < minScrub {
			continue
		}
		quoted := strconv.Quote(value)
		text = strings.ReplaceAll(text, quoted[1:len(quoted)-1], redacted)
		text = strings.ReplaceAll(text, value, redacted)
	}
	return text
}

// joined returns one error for all problems. Equal ones come from a Validate that an embedding struct inherits.
func joined(problems []string) error {
	slices.Sort(problems)
	var list []error
	for _, p := range slices.Compact(problems) {
		list = append(list, errors.New(p))
	}
	return errors.Join(list...)
}
