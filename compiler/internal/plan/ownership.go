package plan

import (
	"fmt"
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
)

// ownership compares whose the namespaces are and what their owners let others do.
// Whoever gets a word of an owner may do tomorrow what nobody asks the owner about
// then, so that a new word is widening whatever requests show of it today.
func (c *comparison) ownership() {
	names := map[string]bool{}
	for _, n := range slices.Concat(c.before.Namespaces, c.after.Namespaces) {
		names[n.Name] = true
	}
	for _, name := range sortedKeys(names) {
		b, was := c.before.Namespace(name)
		a, is := c.after.Namespace(name)
		if was && is {
			c.owners(b, a)
		}
		c.delegations(b, a)
		c.guests(b, a)
	}
	c.sharedAccounts()
}

func (c *comparison) owners(b, a model.Namespace) {
	origin := model.OwnerPath(a.Name)
	if b.Package != a.Package {
		c.own(Widening, a.Name, origin, origin, moved(Belongs, b.Package, a.Package))
	} else if b.Owner != a.Owner {
		c.own(Neutral, a.Name, origin, origin, moved(Owner, b.Owner, a.Owner))
	}
}

// delegations compares word by word, so that a longer list shows what came to it.
func (c *comparison) delegations(b, a model.Namespace) {
	name := a.Name
	if name == "" {
		name = b.Name
	}
	packages := map[string]bool{}
	for _, d := range slices.Concat(b.Delegations, a.Delegations) {
		packages[d.To] = true
	}
	for _, to := range sortedKeys(packages) {
		before, after := delegated(b, to), delegated(a, to)
		path := model.DelegationPath(name, to)
		if more := without(after, before); len(more) > 0 {
			c.own(Widening, name, ifAny(before, path), path, Change{What: Delegated, Package: to, After: more})
		}
		if less := without(before, after); len(less) > 0 {
			c.own(Neutral, name, path, ifAny(after, path), Change{What: Undelegated, Package: to, Before: less})
		}
	}
}

func (c *comparison) guests(b, a model.Namespace) {
	for _, g := range without(a.Guests, b.Guests) {
		if b.Package == g {
			continue // it was the owner: told
		}
		c.own(Widening, a.Name, "", model.GuestPath(a.Name, g), Change{What: GuestNew, Package: g, Home: a.Package, Namespace: a.Name})
	}
	for _, g := range without(b.Guests, a.Guests) {
		if a.Package != g {
			c.own(Neutral, b.Name, model.GuestPath(b.Name, g), "", Change{What: GuestGone, Package: g})
		}
	}
}

// own adds a piece about a namespace; an empty path leaves the side out.
func (c *comparison) own(class Class, namespace, before, after string, says Change) {
	p := piece{class: class, kind: KindOwner, scope: "namespace " + namespace, says: says}
	if before != "" {
		p.before = []space.Origin{space.Origin(before)}
	}
	if after != "" {
		p.after = []space.Origin{space.Origin(after)}
	}
	c.add(p)
}

// sharedAccounts tells of services that come to run as an account which a service of
// another package has: they gain what that one may, and their ports open at its
// proxies, because a proxy is known by its account alone.
func (c *comparison) sharedAccounts() {
	before := servicesByAccount(c.before)
	after := servicesByAccount(c.after)
	for _, account := range sortedKeys(after) {
		for _, s := range after[account] {
			if slices.ContainsFunc(before[account], func(x *model.Service) bool { return x.ID == s.ID }) {
				continue
			}
			others := others(after[account], s)
			// Who was there before does not move; of two that come together each is new.
			if len(others) == 0 {
				continue
			}
			var ports []string
			for _, p := range s.Ports {
				ports = append(ports, fmt.Sprintf("%s (%d)", p.Name, p.Number))
			}
			c.note(s, Widening, KindOwner, Change{What: AccountShared, Account: account, Others: others, Ports: ports})
		}
		for _, s := range after[account] {
			c.openedPorts(account, s, before[account], after[account])
		}
	}
}

// openedPorts tells of a new port of a service that already shared its account.
func (c *comparison) openedPorts(account string, s *model.Service, before, after []*model.Service) {
	i := slices.IndexFunc(before, func(x *model.Service) bool { return x.ID == s.ID })
	others := others(after, s)
	if i < 0 || len(others) == 0 {
		return
	}
	for _, p := range s.Ports {
		if old, ok := before[i].Port(p.Name); !ok || old.Number != p.Number {
			c.note(s, Widening, KindOwner, Change{What: PortShared, Account: account, Others: others, Ports: []string{fmt.Sprintf("%s (%d)", p.Name, p.Number)}})
		}
	}
}

// others are the services of other packages among those that share an account.
func others(all []*model.Service, s *model.Service) []string {
	var out []string
	for _, x := range all {
		if x.Package != s.Package {
			out = append(out, x.ID)
		}
	}
	return out
}

func servicesByAccount(m *model.Mesh) map[string][]*model.Service {
	out := map[string][]*model.Service{}
	for _, s := range m.Services {
		seen := map[string]bool{}
		for _, v := range s.Versions {
			if key := s.Namespace + "/" + v.Account; !seen[key] {
				seen[key] = true
				out[key] = append(out[key], s)
			}
		}
	}
	return out
}

// delegated words what a package may do, one text for each thing.
func delegated(n model.Namespace, to string) []string {
	i := slices.IndexFunc(n.Delegations, func(d model.Delegation) bool { return d.To == to })
	if i < 0 {
		return nil
	}
	d := n.Delegations[i]
	var out []string
	if d.Services {
		out = append(out, "services and externals in the namespace")
	}
	for _, a := range d.Accounts {
		out = append(out, "account "+a)
	}
	for _, h := range d.Hosts {
		if h.Paths == nil {
			out = append(out, "all of host "+h.Name)
		}
		for _, p := range h.Paths {
			out = append(out, "host "+h.Name+" "+p.Written())
		}
	}
	slices.Sort(out)
	return out
}

// folder names a package.
func folder(dir string) string {
	if dir == "." {
		return "the root package"
	}
	return "package " + strconv.Quote(dir)
}

func without[T comparable](xs, ys []T) []T {
	return slices.DeleteFunc(slices.Clone(xs), func(x T) bool { return slices.Contains(ys, x) })
}

func ifAny(words []string, path string) string {
	if len(words) == 0 {
		return ""
	}
	return path
}
