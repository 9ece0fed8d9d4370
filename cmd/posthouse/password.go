package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// password returns given if it is not nil; else it asks for a password without
// echo if somebody sits at a terminal, and otherwise reads a line from p.in.
// With twice set somebody at a terminal must type it again.
func password(p *program, given *string, twice bool) (string, error) {
	if given != nil {
		return *given, nil
	}
	f, ok := p.in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		line, err := bufio.NewReader(io.LimitReader(p.in, 64<<10)).ReadString('\n')
		if err != nil && !(errors.Is(err, io.EOF) && line != "") {
			return "", fmt.Errorf("no --password, and none on standard input: %w", err)
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
	ask := func(prompt string) (string, error) {
		fmt.Fprint(p.err, prompt)
		pw, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(p.err)
		return string(pw), err
	}
	pw, err := ask("Password: ")
	if err != nil || !twice {
		return pw, err
	}
	again, err := ask("Again: ")
	if err == nil && again != pw {
		err = errors.New("the two passwords differ")
	}
	return pw, err
}
