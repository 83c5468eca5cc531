package plan

import (
	"slices"
	"strconv"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// A change of who proves to be whom, or of how, reaches one proxy after the other. In steps none of them refuses another:
// both are taken, then clients switch, then the old one is closed. Between two of them something has to hold that no
// commit says.

// When the next step may be taken.
const (
	everyProxy = "every proxy has confirmed it (meshc status)"
	byCaller   = " for 10 minutes (envoy_meshc_requests_total, by its tag \"caller\")"
)

// inSteps lets the last piece say how the same comes about without a refusal, and with a code that it does not by itself.
func (c *comparison) inSteps(code diag.Code, steps ...string) {
	p := &c.found[len(c.found)-1]
	p.code, p.steps = code, steps
}

// account tells that a version, a service ("") or a gateway runs as another account. who is in its former accounts after;
// free reports whether its old account may be one of these.
func (c *comparison) account(note func(Class, Change), says, kept Change, before, after string, former []string, free bool) {
	if slices.Contains(former, before) {
		note(Neutral, kept)
		c.inSteps("", "once "+everyProxy+", let workloads run as "+after,
			"once nobody has come as "+before+byCaller+", take it out of formerAccounts")
		return
	}
	note(Narrowing, says)
	if !free {
		c.inSteps(diag.CodeAbrupt, "this one as it is, and beside it a version, or a gateway, of its own that runs as "+after+": "+before+" is not its alone",
			"once "+everyProxy+", let workloads run as the new one, and routes lead there",
			"once nobody has come as "+before+byCaller+", take the old one away")
		return
	}
	c.inSteps(diag.CodeAbrupt, "this commit, with formerAccounts: "+before+": {owner, reason, until} beside the new account",
		"once "+everyProxy+", let workloads run as "+after,
		"once nobody has come as "+before+byCaller+", take it out of formerAccounts")
}

// free reports whether nobody has an account after the change, so that it may be somebody's former one.
func (c *comparison) free(namespace, account string) bool {
	has := func(other, own string, former []string) bool {
		return other == namespace && (own == account || slices.Contains(former, account))
	}
	for _, s := range c.after.Services {
		if slices.ContainsFunc(s.Versions, func(v model.Version) bool { return has(s.Namespace, v.Account, v.Former) }) {
			return false
		}
	}
	return account != model.EveryPod && !slices.ContainsFunc(c.after.Gateways, func(g *model.Gateway) bool { return has(g.Namespace, g.Account, g.Former) })
}

// formers tells which accounts are former ones on one side alone, but for those that it ran as before: was. Whoever has
// another one becomes who it is, which gained says.
func (c *comparison) formers(note func(Class, Change), gained What, version string, was []string, is string, before, after []string) {
	tell := func(class Class, what What, b, a []string) {
		note(class, Change{What: what, Version: version, Before: b, After: a})
	}
	for _, account := range without(after, before) {
		if !slices.Contains(was, account) {
			tell(Widening, gained, nil, []string{account})
		}
	}
	for _, account := range without(before, after) {
		if account != is {
			tell(Narrowing, FormerGone, []string{account}, nil)
			c.inSteps("", "before it, see that nobody has come as "+account+byCaller)
		}
	}
}

// mode tells how a change of a port's mode goes on, or that callers and callee have to change together.
func (c *comparison) mode(port string, before, after model.MTLS) {
	switch {
	case before == model.Permissive && after == model.Strict:
		c.inSteps("", "before it, see that no request has come without a certificate"+byCaller)
	case before == model.Strict && after == model.Permissive:
	default: // callers begin TLS, or end it, when they are told, and the callee takes it when it is
		c.inSteps(diag.CodeAbrupt, "a second port of the same application: port: {number, mtls: mode: \""+string(after)+"\"}, and app: beside it in each version",
			"once "+everyProxy+", let callers call that port: main: true there, or port: in calls",
			"once nobody has called port "+port+" for 10 minutes, take it away")
	}
}

// stepsText are the lines about a change that goes in steps.
func stepsText(l Line) []string {
	var out []string
	switch {
	case l.Code != "":
		out = append(out, string(l.Code)+": while this goes round, those who have it and those who have not refuse each other. In steps nobody does:")
	case len(l.Steps) > 1:
		out = append(out, "goes on:")
	}
	for i, s := range l.Steps {
		if l.Code == "" && len(l.Steps) == 1 {
			out = append(out, s)
			continue
		}
		out = append(out, "  "+strconv.Itoa(i+1)+". "+s)
	}
	return out
}
