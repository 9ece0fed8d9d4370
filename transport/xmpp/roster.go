package xmpp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/posthouse-im/posthouse/mailbox"
	"github.com/posthouse-im/posthouse/transport/xmpp/stream"
)

// roster is a user's contacts (RFC 6121, section 2). It is kept as one record
// and never changed, only replaced.
type roster struct {
	Ver   uint64    `json:"ver"`
	Items []contact `json:"items"` // by address
}

// contact is an item of a roster, or somebody who asks to become one.
type contact struct {
	JID    string   `json:"jid"`
	Name   string   `json:"name,omitempty"`
	Groups []string `json:"groups,omitempty"`
	To     bool     `json:"to,omitempty"`   // the user sees the contact's presence
	From   bool     `json:"from,omitempty"` // the contact sees the user's presence
	Ask    bool     `json:"ask,omitempty"`  // the user has asked to see it
	In     bool     `json:"in,omitempty"`   // the contact has asked to see the user's
	// Hidden is a contact who asked, and whom the user has not put in his
	// roster: RFC 6121, section 3.1.3 keeps those out of it.
	Hidden bool `json:"hidden,omitempty"`
}

func (c contact) subscription() string {
	switch {
	case c.To && c.From:
		return "both"
	case c.To:
		return "to"
	case c.From:
		return "from"
	}
	return "none"
}

func (c contact) append(b []byte) []byte {
	b = append(b, "<item"...)
	b = stream.AppendAttr(b, "jid", c.JID)
	if c.Name != "" {
		b = stream.AppendAttr(b, "name", c.Name)
	}
	b = stream.AppendAttr(b, "subscription", c.subscription())
	if c.Ask {
		b = append(b, " ask='subscribe'"...)
	}
	b = append(b, '>')
	for _, g := range c.Groups {
		b = stream.AppendElement(b, "group", "", g)
	}
	return append(b, "</item>"...)
}

func (r *roster) find(jid string) (int, bool) {
	return slices.BinarySearchFunc(r.Items, jid, func(c contact, jid string) int { return cmp.Compare(c.JID, jid) })
}

func (r *roster) get(jid string) contact {
	if r != nil {
		if i, ok := r.find(jid); ok {
			return r.Items[i]
		}
	}
	return contact{JID: jid, Hidden: true}
}

// with returns r with c in it; a contact that says nothing is left out.
func (r *roster) with(c contact) *roster {
	n := &roster{r.Ver + 1, slices.Clone(r.Items)}
	i, ok := n.find(c.JID)
	gone := c.Hidden && !c.To && !c.From && !c.Ask && !c.In
	switch {
	case ok && gone:
		n.Items = slices.Delete(n.Items, i, i+1)
	case ok:
		n.Items[i] = c
	case !gone:
		n.Items = slices.Insert(n.Items, i, c)
	}
	return n
}

func rosterKey(bare string) string { return "xmpp:roster:" + bare }

func (s *Server) readRoster(ctx context.Context, bare string) (*roster, error) {
	v, err := s.core.Mail.Get(ctx, rosterKey(bare))
	if err != nil {
		return nil, fmt.Errorf("xmpp: roster of %s: %w", bare, err)
	}
	r := new(roster)
	if v == nil {
		return r, nil
	}
	if err := json.Unmarshal(v, r); err != nil {
		return nil, fmt.Errorf("xmpp: roster of %s: %w", bare, err)
	}
	return r, nil
}

var (
	// errRosterFull is over Config.MaxRoster.
	errRosterFull = errors.New("xmpp: roster is full")
	// errGone: the account was removed while something waited for the disk.
	errGone = errors.New("xmpp: the account is gone")
)

// here returns errGone if bare is no account any more: nothing is to be kept of
// him. Ask on the user's worker, where Forget comes after it.
func (s *Server) here(bare string) error {
	if !s.core.Auth.Exists(bare) {
		return errGone
	}
	return nil
}

// change lets edit change one contact of bare, durably, and then pushes it to
// those of the user's streams that asked for the roster (RFC 6121, section
// 2.1.6). It blocks; call it on the user's worker. Edit returns false to leave
// everything as it is.
func (s *Server) change(bare, jid string, edit func(*contact) bool) (was, is contact, err error) {
	ctx, cancel := storeContext()
	defer cancel()
	if err := s.here(bare); err != nil {
		return was, is, err
	}
	r := s.rosterOf(bare)
	if r == nil {
		if r, err = s.readRoster(ctx, bare); err != nil {
			return was, is, err
		}
	}
	was = r.get(jid)
	is = was
	is.Groups = slices.Clone(was.Groups)
	if !edit(&is) {
		return was, was, nil
	}
	n := r.with(is)
	if len(n.Items) > s.cfg.MaxRoster && len(n.Items) > len(r.Items) {
		return was, was, errRosterFull
	}
	v, err := json.Marshal(n)
	if err != nil {
		return was, was, err
	}
	if err := s.core.Mail.Put(ctx, mailbox.Record{Key: rosterKey(bare), Value: v}); err != nil {
		return was, was, err
	}
	s.updateRoster(bare, n)
	if !was.Hidden || !is.Hidden {
		s.push(bare, is, n.Ver)
	}
	return was, is, nil
}

func (s *Server) push(bare string, c contact, ver uint64) {
	b := append([]byte(nil), "<query xmlns='"+nsRoster+"'"...)
	b = stream.AppendAttr(b, "ver", verOf(ver))
	b = append(b, '>')
	if c.Hidden {
		b = append(b, "<item"...)
		b = stream.AppendAttr(b, "jid", c.JID)
		b = append(b, " subscription='remove'/>"...)
	} else {
		b = c.append(b)
	}
	b = append(b, "</query></iq>"...)
	s.each(bare, func(x *resource) {
		if !x.wantsRoster() {
			return
		}
		p := append([]byte(nil), "<iq type='set'"...)
		p = stream.AppendAttr(p, "to", x.jid)
		p = stream.AppendAttr(p, "id", "push-"+verOf(ver))
		x.pass(append(append(p, '>'), b...))
	})
}

func verOf(v uint64) string { return strconv.FormatUint(v, 10) }

// rosterGet answers <query xmlns='jabber:iq:roster'/>.
func (x *client) rosterGet(e, q stream.Element) {
	x.mu.Lock()
	x.rostered = true
	x.mu.Unlock()
	r := x.s.rosterOf(x.bare)
	if r == nil {
		x.refuse(e, internalError)
		return
	}
	b := x.startResult(e)
	// RFC 6121, section 2.6.3: an empty result says that the client's is current.
	if v, ok := q.RawAttr("ver"); ok && string(v) == verOf(r.Ver) {
		x.finish(append(b, "/>"...), 0)
		return
	}
	b = append(b, "><query xmlns='"+nsRoster+"'"...)
	b = stream.AppendAttr(b, "ver", verOf(r.Ver))
	b = append(b, '>')
	for _, c := range r.Items {
		if !c.Hidden {
			b = c.append(b)
		}
	}
	x.finish(append(b, "</query></iq>"...), 0)
}

// How many groups a contact may be in, and how many bytes their names and his may
// have together.
const (
	maxGroups = 100
	maxItem   = 4096
)

// rosterSet adds, changes or removes one contact (RFC 6121, sections 2.3 to 2.5).
func (x *client) rosterSet(e, q stream.Element) {
	item, items := stream.Element{}, 0
	for c := range q.Children() {
		item, items = c, items+1
	}
	if items != 1 || !item.Is(nsRoster, "item") {
		x.refuse(e, badRequest) // "MUST contain one and only one <item/>"
		return
	}
	a, err := x.s.parse(item.Attr("jid"))
	if err != nil {
		x.refuse(e, jidMalformed)
		return
	}
	jid := a.Bare()
	if jid == x.bare {
		x.refuse(e, fault{"cancel", "not-allowed", "you are not your own contact"})
		return
	}
	name, remove := item.Attr("name"), item.Attr("subscription") == "remove"
	var groups []string
	size := len(name)
	for g := range item.Children() {
		if g.Is(nsRoster, "group") {
			t := g.Text()
			if size += len(t); t == "" || slices.Contains(groups, t) || len(groups) == maxGroups {
				x.refuse(e, notAcceptable) // RFC 6121, section 2.3.3
				return
			}
			groups = append(groups, t)
		}
	}
	if size > maxItem {
		x.refuse(e, notAcceptable)
		return
	}
	id, r := e.Attr("id"), x.resource
	s, bare := x.s, x.bare
	x.atWork(e, func() {
		was, is, err := s.change(bare, jid, func(c *contact) bool {
			if remove {
				if c.Hidden {
					return false
				}
				*c = contact{JID: jid, Hidden: true}
				return true
			}
			c.Name, c.Groups, c.Hidden = name, groups, false
			return true
		})
		switch {
		case err != nil:
			r.passError("iq", "", id, s.workFault(err, bare))
			return
		case remove && was.Hidden:
			r.passError("iq", "", id, itemNotFound)
			return
		}
		r.passResult("", id, "")
		if remove && !is.To {
			s.parted(bare, was)
		}
	})
}

// workFault is the stanza error for a failure on a worker.
func (s *Server) workFault(err error, bare string) fault {
	if errors.Is(err, errRosterFull) {
		return fault{"cancel", "policy-violation", "the roster is full"}
	}
	if !errors.Is(err, errGone) {
		s.core.Log.Error("xmpp: cannot store", "user", bare, "err", err)
	}
	return faultOf(err)
}
