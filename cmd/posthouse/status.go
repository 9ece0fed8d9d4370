package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/posthouse-im/posthouse/internal/control"
	"github.com/posthouse-im/posthouse/router"
)

// statusCmd asks the server that has the data directory open what it is.
type statusCmd struct{ settings }

func (c *statusCmd) Run(ctx context.Context, p *program) error {
	cfg, err := c.load(p)
	if err != nil {
		return err
	}
	client, err := control.Dial(cfg.Data)
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return err
	}
	return table(p.out, func(w io.Writer) {
		fmt.Fprintf(w, "version\t%s\n", s.Version)
		fmt.Fprintf(w, "process\t%d\n", s.PID)
		fmt.Fprintf(w, "up\t%s\n", time.Since(s.Started).Round(time.Second))
		fmt.Fprintf(w, "domain\t%s\n", s.Domain)
		fmt.Fprintf(w, "accounts\t%d\n", s.Accounts)
		sessions := ""
		for _, d := range router.Doors() {
			sessions += fmt.Sprintf("%s %d  ", d, s.Sessions[d.String()])
		}
		fmt.Fprintf(w, "sessions\t%s\n", strings.TrimRight(sessions, " "))
		for _, name := range slices.Sorted(maps.Keys(s.Open)) {
			fmt.Fprintf(w, "%s\t%s\n", name, s.Open[name])
		}
	})
}
