package config

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Option is one thing that can be set.
type Option struct {
	// Key is its name in the file, mqtt.max_keepalive.
	Key string
	// Env is its environment variable.
	Env string
	// Flag is its flag without the dashes, if it has one of its own.
	Flag string
	// Doc is the comment on its field.
	Doc string

	owner reflect.Type // the struct that it is a field of
	field string
	index []int
}

// section is a struct in the configuration that holds options.
type section struct {
	key   string
	doc   string
	owner reflect.Type
	field string
}

// Options lists all options, in the order of the fields.
func Options() []Option {
	opts, _ := walk(reflect.TypeFor[Config](), "", "", nil)
	return opts
}

// walk lists the options below t. Fields of a kind that no text can say
// (functions, interfaces) are not options: the server fills them in.
func walk(t reflect.Type, key, name string, index []int) (opts []Option, sections []section) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("config")
		if !f.IsExported() || tag == "-" {
			continue
		}
		word := snake(f.Name)
		if tag != "" && tag != "inline" {
			word = tag
		}
		k, n, at := join(key, word), join(name, word), append(slices.Clip(index), i)
		if tag == "inline" {
			n = name
		}
		switch {
		case settable(f.Type) || recordList(f.Type):
			o := Option{
				Key: k, Env: "POSTHOUSE_" + strings.ToUpper(strings.ReplaceAll(n, ".", "_")),
				Doc: docs[k], owner: t, field: f.Name, index: at,
			}
			if !strings.Contains(n, ".") {
				o.Flag = strings.ReplaceAll(n, "_", "-")
			}
			opts = append(opts, o)
		case f.Type.Kind() == reflect.Struct:
			below, inner := walk(f.Type, k, n, at)
			if len(below) > 0 {
				opts = append(opts, below...)
				sections = append(sections, section{k, docs[k], t, f.Name})
				sections = append(sections, inner...)
			}
		}
	}
	return opts, sections
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "." + b
}

// snake turns MaxKeepalive into max_keepalive and HTTPAddr into http_addr.
func snake(name string) string {
	var b strings.Builder
	rs := []rune(name)
	for i, r := range rs {
		if unicode.IsUpper(r) && i > 0 {
			afterLower := !unicode.IsUpper(rs[i-1])
			beforeLower := i+1 < len(rs) && unicode.IsLower(rs[i+1])
			plural := i+2 == len(rs) && rs[i+1] == 's' && unicode.IsUpper(rs[i-1]) // IDs
			if afterLower || beforeLower && !plural {
				b.WriteByte('_')
			}
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// settable reports whether text can say a value of t. A pointer is for what has
// a default that is not zero, where zero can be said, too.
func settable(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Slice:
		return t.Elem().Kind() != reflect.Uint8 && settable(t.Elem())
	case reflect.Pointer:
		return settable(t.Elem())
	}
	return false
}

// Default is the value where nothing is said, as it would be written in the
// file; empty if that is zero.
func (o Option) Default() string {
	v := reflect.ValueOf(Default()).FieldByIndex(o.index)
	if v.IsZero() {
		return ""
	}
	return strings.Trim(show(v), `"`)
}

// value is what the option is in c.
func (o Option) value(c *Config) reflect.Value {
	return reflect.ValueOf(c).Elem().FieldByIndex(o.index)
}

// recordList reports whether t is a list of structs that hold only what text
// can say, and such lists.
func recordList(t reflect.Type) bool {
	if t.Kind() != reflect.Slice || t.Elem().Kind() != reflect.Struct || settable(t) {
		return false
	}
	for i := range t.Elem().NumField() {
		if f := t.Elem().Field(i).Type; !settable(f) && !recordList(f) {
			return false
		}
	}
	return true
}

// word is what a field of an entry in such a list is called.
func word(f reflect.StructField) string {
	if tag := f.Tag.Get("config"); tag != "" {
		return tag
	}
	return snake(f.Name)
}

// records returns the struct that the option is a list of, nil if it is none.
func (o Option) records() reflect.Type {
	f, _ := o.owner.FieldByName(o.field)
	if recordList(f.Type) {
		return f.Type.Elem()
	}
	return nil
}

// set gives the option the values said by texts; only a list takes more or
// fewer than one.
func (o Option) set(c *Config, texts ...string) error {
	return assign(o.value(c), texts...)
}

func assign(v reflect.Value, texts ...string) error {
	if v.Kind() == reflect.Slice {
		list := reflect.MakeSlice(v.Type(), len(texts), len(texts))
		for i, s := range texts {
			if err := parse(list.Index(i), s); err != nil {
				return err
			}
		}
		v.Set(list)
		return nil
	}
	if len(texts) != 1 {
		return fmt.Errorf("one value is wanted, not %d", len(texts))
	}
	return parse(v, texts[0])
}

// isList reports whether the option takes any number of values.
func (o Option) isList() bool {
	t := o.owner
	f, _ := t.FieldByName(o.field)
	return f.Type.Kind() == reflect.Slice
}

// isText reports whether the empty string is a value of the option.
func (o Option) isText() bool {
	f, _ := o.owner.FieldByName(o.field)
	return f.Type.Kind() == reflect.String
}

func parse(v reflect.Value, s string) error {
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(s))
	}
	if v.Type() == reflect.TypeFor[time.Duration]() {
		d, err := parseDuration(s)
		v.SetInt(int64(d))
		return err
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return parse(v.Elem(), s)
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		v.SetBool(b)
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", s)
		}
		v.SetFloat(f)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, err := parseNumber(s)
		if err != nil {
			return err
		}
		if n < 0 || v.OverflowUint(uint64(n)) {
			return fmt.Errorf("%s is out of range", s)
		}
		v.SetUint(uint64(n))
	default:
		n, err := parseNumber(s)
		if err != nil {
			return err
		}
		if v.OverflowInt(n) {
			return fmt.Errorf("%s is out of range", s)
		}
		v.SetInt(n)
	}
	return nil
}

// parseNumber reads 65536, 64KiB or 1MiB.
func parseNumber(s string) (int64, error) {
	digits, unit := s, int64(1)
	for suffix, u := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30} {
		if d, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = strings.TrimSpace(d), u
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number (64KiB, 1MiB and 1GiB are understood)", s)
	}
	if p := n * unit; p/unit == n {
		return p, nil
	}
	return 0, fmt.Errorf("%s is out of range", s)
}

// parseDuration reads what time.ParseDuration does, and whole days: 30d.
func parseDuration(s string) (time.Duration, error) {
	if digits, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseInt(digits, 10, 64)
		d := time.Duration(n) * 24 * time.Hour
		if err == nil && int64(d/(24*time.Hour)) == n {
			return d, nil
		}
	}
	if s == "0" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration (30s, 5m, 12h and 30d are understood)", s)
	}
	return d, nil
}
