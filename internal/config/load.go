package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/posthouse-im/posthouse/address"
)

// Sources says where the configuration comes from.
type Sources struct {
	// File is a YAML file; empty means none.
	File string
	// Env looks up an environment variable, like os.LookupEnv; nil means none.
	Env func(name string) (string, bool)
	// Flags has the values of flags, by the option's key.
	Flags map[string]string
}

// Load reads the sources and checks the result.
func Load(src Sources) (*Config, error) {
	c, err := Read(src)
	if err == nil {
		err = c.Check()
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Read is Load without the check, for programs that only look for the server.
func Read(src Sources) (*Config, error) {
	c := Default()
	opts := map[string]Option{}
	for _, o := range Options() {
		opts[o.Key] = o
	}
	if src.File != "" {
		if err := readFile(&c, opts, src.File); err != nil {
			return nil, err
		}
	}
	if src.Env != nil {
		for _, o := range Options() {
			text, ok := src.Env(o.Env)
			if !ok || text == "" && !o.isText() {
				continue
			}
			if err := o.setText(&c, text); err != nil {
				return nil, fmt.Errorf("config: environment variable %s: %w", o.Env, err)
			}
		}
	}
	for key, text := range src.Flags {
		o, ok := opts[key]
		if !ok {
			return nil, fmt.Errorf("config: there is no option %s%s", key, suggest(opts, key))
		}
		if err := o.setText(&c, text); err != nil {
			if o.Flag != "" {
				key = "--" + o.Flag
			}
			return nil, fmt.Errorf("config: %s: %w", key, err)
		}
	}
	if d, err := address.ParseDomain(c.Domain); err == nil {
		c.Domain = d // as addresses have it: Example.ORG is example.org
	}
	return &c, nil
}

// List reads a list of Ts as it may stand in the file: name is what the text
// is called in errors.
func List[T any](text []byte, name string) ([]T, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("config: %s: %w", name, err)
	}
	if len(doc.Content) == 0 || doc.Content[0].Tag == "!!null" {
		return nil, fmt.Errorf("config: %s: a list is wanted; [] is an empty one", name)
	}
	r := fileReader{file: name}
	list := r.recordList("list", reflect.TypeFor[T](), doc.Content[0])
	if len(r.errs) > 0 {
		return nil, errors.Join(r.errs...)
	}
	return list.Interface().([]T), nil
}

// setText gives the option the value that one text says: a list has commas, and
// a list of records is written as it would be in the file.
func (o Option) setText(c *Config, text string) error {
	switch {
	case o.records() != nil:
		var doc yaml.Node
		if err := yaml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Content) == 0 {
			return fmt.Errorf("%q is not YAML", text)
		}
		r := fileReader{c: c, file: o.Key}
		r.option(o, doc.Content[0])
		return errors.Join(r.errs...)
	case o.isList():
		var list []string
		for s := range strings.SplitSeq(text, ",") {
			if s = strings.TrimSpace(s); s != "" {
				list = append(list, s)
			}
		}
		return o.set(c, list...)
	}
	return o.set(c, text)
}

// UnknownEnv returns the variables of environ, as os.Environ gives them, that
// look like ours and are not.
func UnknownEnv(environ []string) []string {
	known := map[string]bool{"POSTHOUSE_CONFIG": true}
	for _, o := range Options() {
		known[o.Env] = true
	}
	var unknown []string
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "POSTHOUSE_") && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}

func readFile(c *Config, opts map[string]Option, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return fmt.Errorf("config: %s: %w", file, err)
	}
	if len(doc.Content) == 0 {
		return nil // nothing but comments
	}
	r := fileReader{c: c, opts: opts, file: file}
	r.mapping(doc.Content[0], "")
	return errors.Join(r.errs...)
}

// fileReader walks a YAML document and sets what it finds. It goes on after a
// mistake, so that all of them are told at once.
type fileReader struct {
	c    *Config
	opts map[string]Option
	file string
	errs []error
}

func (r *fileReader) fail(n *yaml.Node, format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf("config: %s:%d: %w", r.file, n.Line, fmt.Errorf(format, args...)))
}

func (r *fileReader) mapping(n *yaml.Node, prefix string) {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return // a section with nothing in it
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, "%s holds options, not a value", cmp.Or(prefix, "the file"))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		key := join(prefix, name.Value)
		if seen[key] {
			r.fail(name, "%s is there twice", key)
			continue
		}
		seen[key] = true
		if o, ok := r.opts[key]; ok {
			r.option(o, value)
		} else if r.isSection(key) {
			r.mapping(value, key)
		} else {
			r.fail(name, "there is no option %s%s", key, suggest(r.opts, key))
		}
	}
}

func (r *fileReader) option(o Option, n *yaml.Node) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if t := o.records(); t != nil {
		o.value(r.c).Set(r.recordList(o.Key, t, n))
		return
	}
	texts, ok := r.texts(o.Key, n, o.isList())
	if !ok {
		return
	}
	if err := o.set(r.c, texts...); err != nil {
		r.fail(n, "%s: %w", o.Key, err)
	}
}

// recordList reads a list of structs of type t.
func (r *fileReader) recordList(key string, t reflect.Type, n *yaml.Node) reflect.Value {
	list := reflect.MakeSlice(reflect.SliceOf(t), 0, len(n.Content))
	if n.Kind != yaml.SequenceNode && n.Tag != "!!null" {
		r.fail(n, "%s: a list is wanted", key)
		return list
	}
	fields := reflect.VisibleFields(t)
	for _, e := range n.Content {
		if e.Kind != yaml.MappingNode {
			r.fail(e, "%s: each entry has names and values", key)
			continue
		}
		v := reflect.New(t).Elem()
		for i := 0; i+1 < len(e.Content); i += 2 {
			name, value := e.Content[i], e.Content[i+1]
			n := slices.IndexFunc(fields, func(f reflect.StructField) bool { return word(f) == name.Value })
			if n < 0 {
				r.fail(name, "%s: an entry has no %s", key, name.Value)
				continue
			}
			f := v.Field(n)
			if recordList(f.Type()) {
				f.Set(r.recordList(key+"."+name.Value, f.Type().Elem(), value))
				continue
			}
			texts, ok := r.texts(key+"."+name.Value, value, f.Kind() == reflect.Slice)
			if !ok {
				continue
			}
			if err := assign(f, texts...); err != nil {
				r.fail(value, "%s: %s: %w", key, name.Value, err)
			}
		}
		list = reflect.Append(list, v)
	}
	return list
}

// texts are the plain values in n: one, or with list any number.
func (r *fileReader) texts(key string, n *yaml.Node, list bool) (texts []string, ok bool) {
	switch {
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null" && list:
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		texts = []string{""}
	case n.Kind == yaml.ScalarNode:
		texts = []string{n.Value}
	case n.Kind == yaml.SequenceNode && list:
		for _, e := range n.Content {
			if e.Kind != yaml.ScalarNode {
				r.fail(e, "%s: a list of plain values is wanted", key)
				return nil, false
			}
			texts = append(texts, e.Value)
		}
	default:
		r.fail(n, "%s: a plain value is wanted", key)
		return nil, false
	}
	return texts, true
}

func (r *fileReader) isSection(key string) bool {
	for k := range r.opts {
		if strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

// suggest names the option that key was probably meant to be.
func suggest(opts map[string]Option, key string) string {
	last := key[strings.LastIndexByte(key, '.')+1:]
	best, least := "", 3
	for k := range opts {
		d := distance(key, k)
		if k[strings.LastIndexByte(k, '.')+1:] == last {
			d = min(d, 1) // the right word in the wrong section
		}
		if d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is how many letters must be changed, added or removed.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
