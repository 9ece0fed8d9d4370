package config

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Sample returns a configuration file with every option, its comment, its
// environment variable and its default. All of it is commented out.
func Sample() string {
	var b strings.Builder
	b.WriteString(`# Configuration of Posthouse: posthouse serve --config FILE
#
# Everything here is optional. What is commented out shows the default; where
# that is 0 or empty, the comment says what it means.
#
# Each option has an environment variable too, which goes before this file. A
# flag goes before both; an option without a flag of its own can be given as
# --set KEY=VALUE, for example --set limits.body=2MiB.
#
# Sizes are bytes, or 64KiB, 1MiB, 1GiB. Durations are 30s, 5m, 12h, 30d.
`)
	def := Default()
	opts, sections := walk(reflect.TypeFor[Config](), "", "", nil)
	next := map[string]section{}
	for _, s := range sections {
		next[s.key] = s
	}
	open, said := "", ""
	for _, o := range opts {
		at := o.Key[:max(0, strings.LastIndexByte(o.Key, '.'))]
		if at != open {
			open = at
			if at != "" {
				b.WriteByte('\n')
				indent := strings.Repeat("  ", strings.Count(at, "."))
				comment(&b, indent, next[at].doc)
				fmt.Fprintf(&b, "%s%s:\n", indent, at[strings.LastIndexByte(at, '.')+1:])
			}
		}
		indent := strings.Repeat("  ", strings.Count(o.Key, "."))
		b.WriteByte('\n')
		if o.Doc != said { // several fields may share a comment
			comment(&b, indent, o.Doc)
		}
		said = o.Doc
		comment(&b, indent, o.Env)
		value := reflect.ValueOf(def).FieldByIndex(o.index)
		fmt.Fprintf(&b, "%s#%s: %s\n", indent, o.Key[strings.LastIndexByte(o.Key, '.')+1:], show(value))
	}
	return b.String()
}

func comment(b *strings.Builder, indent, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(strings.TrimRight(indent+"# "+line, " ") + "\n")
	}
}

// show writes a value as YAML.
func show(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return showDuration(x)
	case fmt.Stringer:
		return strings.ToLower(x.String())
	}
	switch v.Kind() {
	case reflect.Pointer:
		return show(v.Elem())
	case reflect.String:
		if v.Len() == 0 || strings.ContainsAny(v.String(), ":#{}[]&*!|>'\"%@`") {
			return fmt.Sprintf("%q", v.String())
		}
		return v.String()
	case reflect.Slice:
		var all []string
		for i := range v.Len() {
			all = append(all, show(v.Index(i)))
		}
		return "[" + strings.Join(all, ", ") + "]"
	}
	return fmt.Sprint(v.Interface())
}

// showDuration is d as a person would write it: 1h, not 1h0m0s.
func showDuration(d time.Duration) string {
	if d == 0 {
		return "0"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}
