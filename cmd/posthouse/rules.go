package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/posthouse-im/posthouse/internal/acl"
	"github.com/posthouse-im/posthouse/internal/config"
	"github.com/posthouse-im/posthouse/internal/control"
)

// mqttCmd manages the MQTT door, in the same way as userCmd does accounts.
type mqttCmd struct {
	Rules rulesCmd `cmd:"" help:"Show, set or ask the rules that stand behind those of mqtt.acl."`
}

type rulesCmd struct {
	Show  rulesShowCmd  `cmd:"" help:"Print the rules, as set takes them; those of the configuration as comments."`
	Set   rulesSetCmd   `cmd:"" help:"Replace the rules. They are in force at once."`
	Check rulesCheckCmd `cmd:"" help:"Say what a client may do, and which rule says so."`
}

type rulesShowCmd struct{ settings }

func (c *rulesShowCmd) Run(ctx context.Context, p *program) error {
	return c.manage(p, false, func(_ control.Accounts, r control.Rules) error {
		list, err := r.List(ctx)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		fmt.Fprintf(&b, "# Version %s\n", list.Version)
		if len(list.File) > 0 {
			b.WriteString("# First come those of mqtt.acl in the configuration:\n")
			for i := range list.File {
				writeRule(&b, "#   ", &list.File[i])
			}
		}
		for i := range list.Rules {
			writeRule(&b, "", &list.Rules[i])
		}
		if len(list.Rules) == 0 {
			b.WriteString("[]\n")
		}
		_, err = p.out.Write(b.Bytes())
		return err
	})
}

// writeRule writes a rule as YAML, an entry of a list.
func writeRule(b *bytes.Buffer, indent string, r *acl.Rule) {
	mark := "- "
	line := func(name string, v any) {
		var text bytes.Buffer
		e := json.NewEncoder(&text) // whose lists and strings are those of YAML, too
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic(err) // it is text
		}
		fmt.Fprintf(b, "%s%s%s: %s", indent, mark, name, &text)
		mark = "  "
	}
	for _, f := range []struct {
		name string
		list []string
	}{{"users", r.Users}, {"roles", r.Roles}} {
		if len(f.list) > 0 {
			line(f.name, f.list)
		}
	}
	if r.Deny {
		line("deny", true)
	}
	if len(r.Publish) > 0 {
		line("publish", r.Publish)
	}
	if len(r.Subscribe) > 0 {
		line("subscribe", r.Subscribe)
	}
}

type rulesSetCmd struct {
	File    string `arg:"" help:"A list of rules as under mqtt.acl, YAML or JSON; - is standard input. [] is none."`
	Version string `placeholder:"VERSION" help:"Do nothing if the rules are no longer those of which show printed this."`
	settings
}

func (c *rulesSetCmd) Run(ctx context.Context, p *program) error {
	in, name := p.in, "standard input"
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		in, name = f, c.File
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	rules, err := config.List[acl.Rule](text, name)
	if err != nil {
		return err
	}
	return c.manage(p, false, func(_ control.Accounts, r control.Rules) error {
		_, err := r.Set(ctx, rules, c.Version)
		return err
	})
}

type rulesCheckCmd struct {
	User      string `arg:"" optional:"" help:"An account. Without one: a client that gives no user name."`
	Client    string `placeholder:"ID" help:"The client identifier."`
	Publish   string `xor:"what" placeholder:"TOPIC" help:"May it publish to this?"`
	Subscribe string `xor:"what" placeholder:"FILTER" help:"May it subscribe to this?"`
	settings
}

func (c *rulesCheckCmd) Run(ctx context.Context, p *program) error {
	return c.manage(p, false, func(_ control.Accounts, r control.Rules) error {
		a, err := r.Explain(ctx, acl.Question{User: c.User, Client: c.Client, Publish: c.Publish, Subscribe: c.Subscribe})
		if err != nil {
			return err
		}
		_, err = io.WriteString(p.out, inWords(&a))
		return err
	})
}

// inWords says an answer to a person.
func inWords(a *acl.Answer) string {
	var b bytes.Buffer
	applied := func(r *acl.Applied) {
		where := "that were set"
		if r.From == acl.File {
			where = "of the configuration"
		}
		fmt.Fprintf(&b, "rule %d of those %s\n", r.Number, where)
		writeRule(&b, "  ", &r.Rule)
	}
	if a.Publish+a.Subscribe == "" && len(a.Rules) > 0 {
		for i := range a.Rules {
			applied(&a.Rules[i])
		}
		return b.String()
	}
	if a.Publish+a.Subscribe != "" {
		b.WriteString(map[bool]string{true: "yes, by ", false: "no, by "}[a.Allowed])
	}
	if a.By != nil {
		applied(a.By)
		return b.String()
	}
	fmt.Fprintln(&b, map[acl.Why]string{
		acl.NoRules:         "there being no rules: an account may use every plain topic",
		acl.NoneFits:        "no rule allowing it",
		acl.RefusedToAll:    "mqtt.refused: nobody may subscribe to that",
		acl.ServerTopic:     "the server: nobody publishes to topics that begin with $",
		acl.AnonymousTopics: "mqtt.anonymous_topics, for clients without an account",
		acl.AnonymousOff:    "mqtt.anonymous, which is off: clients without an account are not let in",
	}[a.Why])
	return b.String()
}
