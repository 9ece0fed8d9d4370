package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/posthouse-im/posthouse/auth"
	"github.com/posthouse-im/posthouse/internal/acl"
)

// Client manages the accounts of a running server, and its rules.
type Client struct{ http http.Client }

// Dial returns a client of the server that runs on the data directory dir, or
// ErrNotRunning.
func Dial(dir string) (*Client, error) {
	probe, err := connect(dir)
	if err != nil {
		return nil, err
	}
	probe.Close()
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return connect(dir) },
	}}}, nil
}

// Close closes the connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call makes one call. The error is ErrNotRunning if the server has gone.
func (c *Client) call(ctx context.Context, name string, in request, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://posthouse/v1/"+name, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	if resp.StatusCode != http.StatusOK {
		var e Error
		if err := d.Decode(&e); err != nil || e.Text == "" {
			return fmt.Errorf("control: the server answered %s", resp.Status)
		}
		return &e
	}
	if err := d.Decode(out); err != nil {
		return fmt.Errorf("control: answer: %w", err)
	}
	return nil
}

// do makes a call that answers with nothing.
func (c *Client) do(ctx context.Context, name string, in request) error {
	return c.call(ctx, name, in, &struct{}{})
}

// Status says what the server is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, "status", request{}, &s)
	return s, err
}

// The methods of Accounts do what those of auth.Auth do.

func (c *Client) Add(ctx context.Context, user, password string, role auth.Role) error {
	return c.do(ctx, "user/add", request{User: user, Password: password, Role: role})
}

func (c *Client) Remove(ctx context.Context, user string) error {
	return c.do(ctx, "user/rm", request{User: user})
}

func (c *Client) SetPassword(ctx context.Context, user, password string) error {
	return c.do(ctx, "user/passwd", request{User: user, Password: password})
}

func (c *Client) SetRole(ctx context.Context, user string, role auth.Role) error {
	return c.do(ctx, "user/role", request{User: user, Role: role})
}

func (c *Client) SetDisabled(ctx context.Context, user string, disabled bool) error {
	return c.do(ctx, "user/disable", request{User: user, Disabled: disabled})
}

func (c *Client) List(ctx context.Context) ([]auth.Account, error) {
	var out accountList
	err := c.call(ctx, "user/ls", request{}, &out)
	return out.Accounts, err
}

func (c *Client) AddKey(ctx context.Context, user, label string) (string, error) {
	var out newKey
	err := c.call(ctx, "key/add", request{User: user, Label: label}, &out)
	return out.Key, err
}

func (c *Client) RemoveKey(ctx context.Context, user, label string) error {
	return c.do(ctx, "key/rm", request{User: user, Label: label})
}

func (c *Client) ListKeys(ctx context.Context, user string) ([]auth.Key, error) {
	var out keyList
	err := c.call(ctx, "key/ls", request{User: user}, &out)
	return out.Keys, err
}

func (c *Client) IssueToken(ctx context.Context, user, device string, life time.Duration) (string, time.Time, error) {
	var out newToken
	err := c.call(ctx, "token", request{User: user, Device: device, Life: life}, &out)
	return out.Token, out.Expires, err
}

// Rules does for rules what the methods of Accounts do for accounts.
func (c *Client) Rules() Rules { return clientRules{c} }

type clientRules struct{ c *Client }

func (r clientRules) List(ctx context.Context) (l acl.List, err error) {
	err = r.c.call(ctx, "rules/ls", request{}, &l)
	return l, err
}

func (r clientRules) Set(ctx context.Context, rules []acl.Rule, version string) (l acl.List, err error) {
	err = r.c.call(ctx, "rules/set", request{Rules: rules, Version: version}, &l)
	return l, err
}

func (r clientRules) Explain(ctx context.Context, q acl.Question) (a acl.Answer, err error) {
	err = r.c.call(ctx, "rules/check", request{Question: q}, &a)
	return a, err
}
