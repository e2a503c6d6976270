package config

import (
	"encoding"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/kelseyhightower/envconfig"
)

// schema is the description of the settings that a struct holds.
type schema struct {
	settings []setting       // in the order of the struct
	groups   []string        // declared prefixes, without the underscore, sorted
	structs  []reflect.Value // all structs, inner ones first
	wrong    []string        // mistakes in the struct
}

// setting is one field.
type setting struct {
	rules
	name     string
	fallback string // the default
	group    string // the declared group that its name begins with, or empty
	required bool
	field    reflect.Value
}

func (s setting) secret() bool { return s.field.Type() == reflect.TypeFor[Secret]() }

var wellNamed = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)

// inspect reads the struct that ptr points to. Its error lists all that is wrong with the struct itself.
func inspect(ptr reflect.Value) (schema, error) {
	var s schema
	s.walk(ptr.Elem())
	if len(s.wrong) == 0 {
		s.gather(ptr)
	}
	s.assign()
	if len(s.wrong) > 0 {
		return s, fmt.Errorf("config: struct %s is wrong:\n%w", ptr.Type().Elem(), joined(s.wrong))
	}
	return s, nil
}

func (s *schema) mend(name, format string, args ...any) {
	s.wrong = append(s.wrong, name+": "+fmt.Sprintf(format, args...))
}

// walk visits the structs, which envconfig doesn't return, and refuses the fields that envconfig would silently ignore.
func (s *schema) walk(v reflect.Value) {
	for f, inner := range v.Fields() {
		if skip, _ := strconv.ParseBool(f.Tag.Get("ignored")); skip {
			continue
		}
		if group, ok := f.Tag.Lookup("group"); ok {
			s.groups = append(s.groups, group)
		}
		_, tagged := f.Tag.Lookup("envconfig")
		switch {
		case !f.IsExported():
			if tagged || f.Anonymous {
				s.mend(f.Name, "not exported, so it could never be filled")
			}
		case f.Type.Kind() == reflect.Pointer:
			s.mend(f.Name, "a pointer; use a plain field")
		case f.Type.Kind() == reflect.Struct && !decodes(f.Type):
			s.walk(inner)
		}
	}
	s.structs = append(s.structs, v)
}

// decodes returns whether envconfig reads a struct of type t as one value, and not as a struct of settings.
func decodes(t reflect.Type) bool {
	for _, way := range []reflect.Type{
		reflect.TypeFor[envconfig.Decoder](), reflect.TypeFor[envconfig.Setter](),
		reflect.TypeFor[encoding.TextUnmarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](),
	} {
		if reflect.PointerTo(t).Implements(way) {
			return true
		}
	}
	return false
}

// gather reads the fields by envconfig. Usaget is its only function that returns them and neither reads the process's
// environment nor assigns anything. This package assigns the values itself, because envconfig.Process reads only the
// process's environment, stops at the first problem, repeats the value in its error, and accepts an empty value.
func (s *schema) gather(ptr reflect.Value) {
	add := func(field string, v reflect.Value, tags reflect.StructTag) string {
		s.add(field, v, tags)
		return ""
	}
	page, err := template.New("settings").Funcs(template.FuncMap{"add": add}).Parse(`{{range .}}{{add .Name .Field .Tags}}{{end}}`)
	if err == nil {
		err = envconfig.Usaget("", ptr.Interface(), io.Discard, page)
	}
	if err != nil {
		s.mend("envconfig", "%v", err)
	}
}

func (s *schema) add(field string, v reflect.Value, tags reflect.StructTag) {
	name := tags.Get("envconfig")
	if !wellNamed.MatchString(name) {
		s.mend(field, "no tag envconfig with a name in capitals, digits and underscores")
		return
	}
	n := setting{name: name, fallback: tags.Get("default"), field: v}
	n.required, _ = strconv.ParseBool(tags.Get("required"))
	if tags.Get("desc") == "" {
		s.mend(name, "no tag desc")
	}
	if n.required && n.fallback != "" {
		s.mend(name, "required, and yet with a default")
	}
	if n.secret() && n.fallback != "" {
		s.mend(name, "a secret has no default")
	}
	k, ok := kindOf(v.Type())
	if !ok {
		s.mend(name, "type %s is not supported; give it UnmarshalText", v.Type())
		return
	}
	var err error
	if n.rules, err = rulesOf(k, v.Type(), tags); err != nil {
		s.mend(name, "%v", err)
		return
	}
	if n.fallback != "" {
		if err := n.set(reflect.New(v.Type()).Elem(), n.fallback); err != nil {
			s.mend(name, "the default: %v", err)
		}
	}
	s.settings = append(s.settings, n)
}

// assign gives each setting its group, and finds names and groups that don't fit together.
func (s *schema) assign() {
	slices.Sort(s.groups)
	s.groups = slices.Compact(s.groups)
	used := make(map[string]bool)
	seen := make(map[string]bool)
	for i := range s.settings {
		n := &s.settings[i]
		if n.group = s.groupOf(n.name); n.group != "" {
			used[n.group] = true
		}
		names := []string{n.name}
		if n.secret() {
			names = append(names, n.name+fileSuffix)
		}
		for _, name := range names {
			if seen[name] {
				s.mend(name, "two settings have this name")
			}
			seen[name] = true
		}
	}
	complete := len(s.wrong) == 0 // otherwise a group may only seem unused
	for _, group := range s.groups {
		if complete && !used[group] {
			s.mend("group "+strconv.Quote(group), "no setting's name begins with it")
		}
	}
}

// groupOf returns the declared group that name begins with, or empty. If a group is inside another, it is the outer one.
func (s *schema) groupOf(name string) string {
	i := slices.IndexFunc(s.groups, func(group string) bool { return strings.HasPrefix(name, group+"_") })
	if i < 0 {
		return ""
	}
	return s.groups[i]
}
