package config

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// kind is how values of a type are written. Its errors and those of parse never repeat the value.
type kind struct {
	noun    string // with its article, as in "not a duration"
	example string // or empty
	ordered bool   // whether it can have bounds
	parse   func(v reflect.Value, text string) error
}

// errRange is the error of a number that is well written, but too large or too small for its type.
var errRange = errors.New("out of range")

// errForm is the error of a text that is no value of the type.
var errForm = errors.New("malformed")

// kindOf returns how values of type t are written, and whether t can be a setting.
func kindOf(t reflect.Type) (kind, bool) {
	switch {
	case t == reflect.TypeFor[Secret]():
		return kind{noun: "a secret", parse: byText}, true
	case t == reflect.TypeFor[Bytes]():
		return kind{noun: "a size", example: "512MiB", ordered: true, parse: byText}, true
	case t == reflect.TypeFor[time.Duration]():
		return kind{noun: "a duration", example: "30s or 1m30s", ordered: true, parse: parseDuration}, true
	case reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return kind{noun: withArticle(strings.ToLower(t.Name())), parse: byText}, true
	}
	switch t.Kind() {
	case reflect.String:
		return kind{noun: "plain text", parse: parseString}, true
	case reflect.Bool:
		return kind{noun: "a boolean", parse: parseBool}, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return kind{noun: "a whole number", example: "5", ordered: true, parse: parseInt}, true
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return kind{noun: "a whole number", example: "5", ordered: true, parse: parseUint}, true
	case reflect.Float32, reflect.Float64:
		return kind{noun: "a number", example: "0.5", ordered: true, parse: parseFloat}, true
	case reflect.Slice:
		element, ok := kindOf(t.Elem())
		if !ok || t.Elem().Kind() == reflect.Slice || t.Elem() == reflect.TypeFor[Secret]() {
			return kind{}, false
		}
		list := func(v reflect.Value, text string) error { return parseList(v, text, element) }
		return kind{noun: "a comma-separated list, each " + element.noun, example: element.example, parse: list}, true
	}
	return kind{}, false
}

func withArticle(noun string) string {
	if strings.ContainsAny(noun[:min(1, len(noun))], "aeiou") {
		return "an " + noun
	}
	return "a " + noun
}

func byText(v reflect.Value, text string) error {
	return v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
}

func parseDuration(v reflect.Value, text string) error {
	d, err := time.ParseDuration(text)
	v.SetInt(int64(d))
	return err
}

// parseString refuses text that would break a log line or a table, and bytes that are no text.
func parseString(v reflect.Value, text string) error {
	if !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return errForm
	}
	v.SetString(text)
	return nil
}

func parseBool(v reflect.Value, text string) error {
	b, err := strconv.ParseBool(text)
	v.SetBool(b)
	return err
}

// parseInt reads decimal digits only: with Go's prefixes 010 would be eight.
func parseInt(v reflect.Value, text string) error {
	n, err := strconv.ParseInt(text, 10, v.Type().Bits())
	v.SetInt(n)
	return ranged(err)
}

func parseUint(v reflect.Value, text string) error {
	n, err := strconv.ParseUint(text, 10, v.Type().Bits())
	v.SetUint(n)
	return ranged(err)
}

func parseFloat(v reflect.Value, text string) error {
	n, err := strconv.ParseFloat(text, v.Type().Bits())
	if math.IsNaN(n) || math.IsInf(n, 0) {
		return errForm
	}
	v.SetFloat(n)
	return ranged(err)
}

func ranged(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errRange
	}
	return err
}

func parseList(v reflect.Value, text string, element kind) error {
	parts := strings.Split(text, ",")
	list := reflect.MakeSlice(v.Type(), len(parts), len(parts))
	for i, part := range parts {
		part = strings.TrimSpace(part)
		if part == "" {
			return errForm
		}
		if err := element.parse(list.Index(i), part); err != nil {
			return err
		}
	}
	v.Set(list)
	return nil
}

// rules are the demands of the tags beyond the type.
type rules struct {
	kind     kind
	min, max bound
	choices  []string // of oneof
	usual    string   // the default, used as the example
	desc     string
}

// bound is one end of a range. Without a value there is no bound; without a text it is not mentioned.
type bound struct {
	text  string
	value reflect.Value
}

func rulesOf(k kind, t reflect.Type, tags reflect.StructTag) (rules, error) {
	r := rules{kind: k, choices: strings.Fields(tags.Get("oneof")), usual: tags.Get("default"), desc: tags.Get("desc")}
	for _, end := range []struct {
		tag string
		at  *bound
	}{{"min", &r.min}, {"max", &r.max}} {
		text, ok := tags.Lookup(end.tag)
		if !ok {
			continue
		}
		if !k.ordered {
			return r, fmt.Errorf("tag %s: %s has no order", end.tag, k.noun)
		}
		*end.at = bound{text, reflect.New(t).Elem()}
		if k.parse(end.at.value, text) != nil {
			return r, fmt.Errorf("tag %s: not %s", end.tag, k.noun)
		}
	}
	if r.min.text != "" && r.max.text != "" && compare(r.min.value, r.max.value) > 0 {
		return r, errors.New("tag min is above tag max")
	}
	if t == reflect.TypeFor[time.Duration]() && r.min.text == "" {
		r.min.value = reflect.Zero(t)
	}
	return r, nil
}

// set parses text into v. The error says what is wrong and what to write.
func (r rules) set(v reflect.Value, text string) error {
	if len(r.choices) > 0 {
		chosen, ok := r.choose(text)
		if !ok && r.kind.noun == "plain text" {
			return fmt.Errorf("unknown choice; write %s", r.form())
		}
		if !ok {
			return fmt.Errorf("not %s; write %s", r.kind.noun, r.form())
		}
		text = chosen
	}
	switch err := r.kind.parse(v, text); {
	case errors.Is(err, errRange):
		return fmt.Errorf("out of range; write %s", r.advice())
	case err != nil:
		return fmt.Errorf("not %s; write %s", r.kind.noun, r.advice())
	case r.min.value.IsValid() && compare(v, r.min.value) < 0 && r.min.text == "":
		return fmt.Errorf("negative; write %s", r.advice())
	case r.min.value.IsValid() && compare(v, r.min.value) < 0:
		return fmt.Errorf("below %s; write %s", r.min.text, r.advice())
	case r.max.value.IsValid() && compare(v, r.max.value) > 0:
		return fmt.Errorf("above %s; write %s", r.max.text, r.advice())
	}
	return nil
}

// choose returns the allowed word that equals text in any case.
func (r rules) choose(text string) (string, bool) {
	i := slices.IndexFunc(r.choices, func(c string) bool { return strings.EqualFold(c, text) })
	if i < 0 {
		return text, false
	}
	return r.choices[i], true
}

func compare(a, b reflect.Value) int {
	switch {
	case a.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	}
	return cmp.Compare(a.Float(), b.Float())
}

// form returns in words what can be written: "a duration from 1s to 30s", "auto, console or json".
func (r rules) form() string {
	switch {
	case len(r.choices) > 1:
		last := len(r.choices) - 1
		return strings.Join(r.choices[:last], ", ") + " or " + r.choices[last]
	case len(r.choices) == 1:
		return r.choices[0]
	case r.kind.noun == "a boolean":
		return "true or false"
	case r.min.text != "" && r.max.text != "":
		return r.kind.noun + " from " + r.min.text + " to " + r.max.text
	case r.min.text != "":
		return r.kind.noun + " of at least " + r.min.text
	case r.max.text != "":
		return r.kind.noun + " of at most " + r.max.text
	}
	return r.kind.noun
}

// advice returns form with an example, or with another help.
func (r rules) advice() string {
	example := cmp.Or(r.usual, r.max.text, r.min.text, r.kind.example)
	switch {
	case len(r.choices) > 0 || r.kind.noun == "a boolean":
		return r.form()
	case r.kind.noun == "plain text":
		return "it without line breaks and control characters"
	case example == "":
		return r.form() + " (" + r.desc + ")"
	}
	return r.form() + ", such as " + example
}
