package client_test

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/printer"
	gotoken "go/token"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/posthouse-im/posthouse/internal/golden"
)

//go:generate go test -run TestReference -rewrite .

const sdk = "github.com/posthouse-im/posthouse/client"

// docs/sdk-go-reference.md is what the packages of the SDK export, with their
// comments.
func TestReference(t *testing.T) {
	var b bytes.Buffer
	b.WriteString(`# Reference of the Go SDK

Everything that the packages of the SDK export. How they are used is in [The Go SDK](sdk-go.md). Made from the sources by
` + "`go generate ./client`" + `.
`)
	for _, p := range []string{"", "link", "link/quic", "poll", "mqtt", "xmpp", "store/pebble"} {
		if err := reference(&b, p); err != nil {
			t.Fatal(err)
		}
	}
	golden.File(t, "../docs/sdk-go-reference.md", "go generate ./client", b.Bytes())
}

// reference writes what one package exports.
func reference(b *bytes.Buffer, dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	fset := gotoken.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, path.Join(sdk, dir))
	if err != nil {
		return err
	}
	text := func(s string) {
		if s == "" {
			return
		}
		pr := p.Printer()
		pr.HeadingLevel = 3
		pr.HeadingID = func(*comment.Heading) string { return "" }
		pr.DocLinkURL = func(*comment.DocLink) string { return "" }
		b.Write(pr.Markdown(p.Parser().Parse(s)))
		b.WriteByte('\n')
	}
	code := func(n ast.Node) error {
		b.WriteString("```go\n")
		cfg := printer.Config{Mode: printer.UseSpaces | printer.TabIndent, Tabwidth: 8}
		err := cfg.Fprint(b, fset, n)
		b.WriteString("\n```\n\n")
		return err
	}
	functions := func(fs []*doc.Func) error {
		for _, f := range fs {
			f.Decl.Doc, f.Decl.Body = nil, nil
			if err := code(f.Decl); err != nil {
				return err
			}
			text(f.Doc)
		}
		return nil
	}
	values := func(vs []*doc.Value) error {
		for _, v := range vs {
			v.Decl.Doc = nil
			if err := code(v.Decl); err != nil {
				return err
			}
			text(v.Doc)
		}
		return nil
	}
	fmt.Fprintf(b, "\n## %s\n\n```go\nimport %q\n```\n\n", p.Name, path.Join(sdk, dir))
	text(p.Doc)
	if err := values(append(p.Consts, p.Vars...)); err != nil {
		return err
	}
	if err := functions(p.Funcs); err != nil {
		return err
	}
	for _, typ := range p.Types {
		fmt.Fprintf(b, "### %s.%s\n\n", p.Name, typ.Name)
		typ.Decl.Doc = nil
		if err := code(typ.Decl); err != nil {
			return err
		}
		text(typ.Doc)
		if err := values(append(typ.Consts, typ.Vars...)); err != nil {
			return err
		}
		if err := functions(append(typ.Funcs, typ.Methods...)); err != nil {
			return err
		}
	}
	b.Truncate(len(strings.TrimRight(b.String(), "\n")))
	b.WriteByte('\n')
	return nil
}
