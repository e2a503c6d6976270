package config

import (
	"encoding"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
)

// Setting describes one setting for people and programs. No field of it holds a secret.
type Setting struct {
	Name     string `json:"name"`
	Write    string `json:"write"`    // what can be written: "a duration from 1s to 30s", "auto, console or json"
	Default  string `json:"default"`  // empty: none
	Meaning  string `json:"meaning"`  // the tag desc
	Value    string `json:"value"`    // its value now; "set" or "unset" for a secret; a URL without its credentials
	Group    string `json:"group"`    // all names that begin with Group_ are ours; empty: none
	Secret   bool   `json:"secret"`   // can also come as Name_FILE and from /run/secrets
	Required bool   `json:"required"` // unset and empty are refused
}

// Describe returns the settings of the struct that from points to, in its order, with the struct's values. An error means
// that the struct itself is wrong.
func Describe(from any) ([]Setting, error) {
	v := reflect.ValueOf(from)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: describe: %T is not a pointer to a struct", from)
	}
	s, err := inspect(v)
	if err != nil {
		return nil, err
	}
	var list []Setting
	for _, n := range s.settings {
		list = append(list, Setting{
			Name: n.name, Write: n.form(), Default: n.fallback, Meaning: n.desc, Value: n.value(),
			Group: n.group, Secret: n.secret(), Required: n.required,
		})
	}
	return list, nil
}

// value returns the field's value for people.
func (s setting) value() string {
	if s.secret() {
		if s.field.Interface().(Secret).Reveal() == "" {
			return "unset"
		}
		return "set"
	}
	if s.field.Kind() == reflect.Slice {
		var parts []string
		for i := range s.field.Len() {
			parts = append(parts, text(s.field.Index(i)))
		}
		return strings.Join(parts, ",")
	}
	chosen, _ := s.choose(text(s.field))
	return chosen
}

// credentials are the user and password in a URL. Up to the last @: a password may hold anything.
var credentials = regexp.MustCompile(`://\S*@`)

func text(v reflect.Value) string {
	out := fmt.Sprint(v.Interface())
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			out = string(b)
		}
	}
	return credentials.ReplaceAllString(out, "://"+redacted+"@")
}

// WriteText writes the settings as an aligned table for a terminal.
func WriteText(w io.Writer, list []Setting) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tVALUE\tDEFAULT\tMEANING")
	for _, s := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", s.Name, orDash(shown(s.Value)), orDash(s.Default), s.Meaning)
	}
	return t.Flush()
}

// orDash returns a dash for an empty cell.
func orDash(cell string) string {
	if cell == "" {
		return "-"
	}
	return cell
}

// WriteJSON writes the settings as an indented JSON array.
func WriteJSON(w io.Writer, list []Setting) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

// WriteMarkdown writes the reference page of the settings, without their values.
func WriteMarkdown(w io.Writer, list []Setting) error {
	var b strings.Builder
	b.WriteString("# Settings\n\nGenerated from the structs that declare the settings: change those, not this page.\n\n")
	b.WriteString("Settings are environment variables. An empty one counts as unset.\n")
	var groups []string
	for _, s := range list {
		if s.Group != "" {
			groups = append(groups, "`"+s.Group+"_`")
		}
	}
	slices.Sort(groups)
	if groups = slices.Compact(groups); len(groups) > 0 {
		fmt.Fprintf(&b, "Names that begin with %s are ours: an unknown one is refused at start.\n", strings.Join(groups, ", "))
	}
	if slices.ContainsFunc(list, func(s Setting) bool { return s.Secret }) {
		fmt.Fprintf(&b, "A secret called `NAME` also comes from the file whose path is in `NAME%s`, or from `%s/name` (lower case).\n",
			fileSuffix, secretsDir)
	}
	b.WriteString("\n| name | write | default | meaning |\n| --- | --- | --- | --- |\n")
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;")
	for _, s := range list {
		fallback := ""
		if s.Default != "" {
			fallback = "`" + cell.Replace(s.Default) + "`"
		}
		if s.Required {
			fallback = "(required)"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Name, cell.Replace(s.Write), fallback, cell.Replace(s.Meaning))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
