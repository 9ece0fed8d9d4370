// Posthouse is a push server for instant messages and notifications: four
// doors to one mailbox. This is the server and its tools in one program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/posthouse-im/posthouse/internal/config"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], program{os.Stdin, os.Stdout, os.Stderr, os.LookupEnv, os.Environ()}))
}

// program is what a command has of the world outside.
type program struct {
	in       io.Reader
	out, err io.Writer
	env      func(string) (string, bool)
	environ  []string
}

// cli is the command line.
type cli struct {
	Serve   serveCmd   `cmd:"" help:"Run the server."`
	User    userCmd    `cmd:"" help:"Manage accounts, whether the server runs or not."`
	Status  statusCmd  `cmd:"" help:"Say what the running server is, what is open and who is there."`
	MQTT    mqttCmd    `cmd:"" name:"mqtt" help:"Say who may use which MQTT topics, whether the server runs or not."`
	Send    sendCmd    `cmd:"" help:"Send a message."`
	Tail    tailCmd    `cmd:"" help:"Print what arrives, one JSON object a line, and acknowledge it."`
	Bench   benchCmd   `cmd:"" help:"Load a server and say what it did."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// run carries out one command line and returns the exit status: 0, 1 when it
// failed, 2 when the command line was wrong.
func run(ctx context.Context, args []string, p program) int {
	var c cli
	status := -1
	parser, err := kong.New(&c,
		kong.Name("posthouse"),
		kong.Description("A push server for messages and notifications: HTTP, XMPP, MQTT and a long connection of its own, one mailbox behind them.\n\n"+
			"With no flag it keeps its data in ./posthouse-data and can be reached from this machine alone."),
		kong.Vars(flagHelp()),
		kong.Writers(p.out, p.err),
		kong.Exit(func(code int) { status = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(&p),
	)
	if err != nil {
		panic(err) // the structs above are wrong
	}
	k, err := parser.Parse(args)
	if status >= 0 { // --help
		return status
	}
	if err != nil {
		fmt.Fprintf(p.err, "posthouse: %v\n", err)
		var pe *kong.ParseError
		if errors.As(err, &pe) && pe.Context.Command() == "" {
			fmt.Fprintln(p.err, "See posthouse --help.")
		}
		return 2
	}
	if err := k.Run(); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(p.err, "posthouse: %s\n", line)
		}
		return 1
	}
	return 0
}

// settings are the flags that every command has which must find the server or
// its data.
type settings struct {
	Config   string   `placeholder:"FILE" env:"POSTHOUSE_CONFIG" help:"A YAML file with options."`
	Set      []string `placeholder:"KEY=VALUE" sep:"none" help:"Set any option of the file."`
	Data     *string  `placeholder:"DIR" help:"${data}"`
	Domain   *string  `placeholder:"NAME" help:"${domain}"`
	HTTP     *string  `name:"http" placeholder:"ADDR" help:"${http}"`
	HTTPS    *string  `name:"https" placeholder:"ADDR" help:"${https}"`
	MQTT     *string  `name:"mqtt" placeholder:"ADDR" help:"${mqtt}"`
	MQTTS    *string  `name:"mqtts" placeholder:"ADDR" help:"${mqtts}"`
	MQTTSN   *string  `name:"mqtt-sn" placeholder:"ADDR" help:"${mqtt_sn}"`
	XMPP     *string  `name:"xmpp" placeholder:"ADDR" help:"${xmpp}"`
	XMPPS    *string  `name:"xmpps" placeholder:"ADDR" help:"${xmpps}"`
	XMPPS2S  *string  `name:"xmpp-s2s" placeholder:"ADDR" help:"${xmpp_s2s}"`
	Link     *string  `placeholder:"ADDR" help:"${link}"`
	Links    *string  `placeholder:"ADDR" help:"${links}"`
	LinkQUIC *string  `name:"link-quic" placeholder:"ADDR" help:"${link_quic}"`
	Insecure *bool    `help:"${insecure}"`
	Pprof    *bool    `help:"${pprof}"`
}

// sources says where the configuration of a command comes from.
func (s *settings) sources(p *program) (config.Sources, error) {
	flags := map[string]string{}
	for _, kv := range s.Set {
		key, value, ok := strings.Cut(kv, "=")
		if !ok {
			return config.Sources{}, fmt.Errorf("--set %s: KEY=VALUE is wanted", kv)
		}
		flags[key] = value
	}
	for key, v := range map[string]*string{
		"data": s.Data, "domain": s.Domain,
		"listen.http": s.HTTP, "listen.https": s.HTTPS, "listen.mqtt": s.MQTT, "listen.mqtts": s.MQTTS,
		"listen.mqtt_sn": s.MQTTSN,
		"listen.xmpp":    s.XMPP, "listen.xmpps": s.XMPPS, "listen.xmpp_s2s": s.XMPPS2S,
		"listen.link": s.Link, "listen.links": s.Links, "listen.link_quic": s.LinkQUIC,
	} {
		if v != nil {
			flags[key] = *v
		}
	}
	for key, v := range map[string]*bool{"insecure": s.Insecure, "pprof": s.Pprof} {
		if v != nil {
			flags[key] = fmt.Sprint(*v)
		}
	}
	return config.Sources{File: s.Config, Env: p.env, Flags: flags}, nil
}

// load reads and checks the configuration of a command.
func (s *settings) load(p *program) (*config.Config, error) {
	src, err := s.sources(p)
	if err != nil {
		return nil, err
	}
	return config.Load(src)
}

// flagHelp has the help texts: the options' comments, as far as their first
// sentence goes.
func flagHelp() map[string]string {
	help := map[string]string{}
	for _, o := range config.Options() {
		if o.Flag == "" {
			continue
		}
		// "data is the directory that …" is about the key; for a flag it is
		// "The directory that …".
		_, text, _ := strings.Cut(strings.Join(strings.Fields(o.Doc), " "), " ")
		text = strings.TrimPrefix(text, "is ")
		if i := strings.Index(text, ". "); i > 0 {
			text = text[:i+1]
		}
		name := strings.ReplaceAll(o.Flag, "-", "_")
		if def := o.Default(); def != "" {
			text += " Default " + def + "."
		}
		help[name] = strings.ToUpper(text[:1]) + text[1:] + " (" + o.Env + ")"
	}
	return help
}
