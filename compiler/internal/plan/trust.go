package plan

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/internal/space"
	"meshc.dev/meshc/internal/diag"
)

// trustDomains tells of the mesh's own trust domain, and of others.
func (c *comparison) trustDomains(whole func(Class, What, string, string)) {
	if c.oldDomain != c.after.TrustDomain {
		c.movesDomain(whole)
	}
	own := func(name string) bool { return name == c.oldDomain || name == c.after.TrustDomain }
	is := func(path string) { c.found[len(c.found)-1].after = []space.Origin{space.Origin(path)} }
	for _, a := range c.after.Aliases {
		told := len(c.found)
		switch b, had := domainNamed(c.before.Aliases, a.Name); {
		case !had && own(a.Name) && a.Roots != nil: // no file said before who signs for it
			whole(Widening, AliasOwn, "", a.Name)
		case !had && !own(a.Name):
			whole(Widening, AliasNew, "", a.Name)
		case had && len(without(a.Roots, b.Roots)) > 0 || had && a.Roots == nil && b.Roots != nil:
			whole(Widening, AliasSigned, a.Name, a.Name)
		case had && !slices.Equal(a.Roots, b.Roots):
			whole(Narrowing, AliasSigned, a.Name, a.Name)
		}
		if len(c.found) > told {
			is(model.AliasPath(a.Name))
		}
	}
	for _, b := range c.before.Aliases {
		if _, has := domainNamed(c.after.Aliases, b.Name); !has && !own(b.Name) {
			whole(Narrowing, AliasGone, b.Name, "")
			c.found[len(c.found)-1].before = []space.Origin{space.Origin(model.AliasPath(b.Name))}
			c.inSteps("", "before it, see that nobody has come from "+b.Name+byCaller)
		}
	}
	c.federation(whole)
}

// movesDomain tells that the mesh moves to another trust domain: in steps, or so that old and new proxies refuse each other.
func (c *comparison) movesDomain(whole func(Class, What, string, string)) {
	_, before := domainNamed(c.before.Aliases, c.after.TrustDomain)
	_, after := domainNamed(c.after.Aliases, c.oldDomain)
	last := "once nobody has come from " + c.oldDomain + byCaller + ", take it out of aliases"
	if before && after {
		whole(Neutral, DomainsBoth, c.oldDomain, c.after.TrustDomain)
		c.inSteps("", "once "+everyProxy+", let workloads have certificates of "+c.after.TrustDomain, last)
		return
	}
	whole(Narrowing, TrustDomain, c.oldDomain, c.after.TrustDomain)
	steps := []string{"trustDomain: " + c.after.TrustDomain + ", aliases: " + c.oldDomain + ": {bundle, owner, reason, until}", "once " + everyProxy + ", let workloads have certificates of " + c.after.TrustDomain, last}
	if !before {
		steps = append([]string{"trustDomain: " + c.oldDomain + " as it is, aliases: " + c.after.TrustDomain + ": {bundle, owner, reason, until}"}, steps...)
		steps[1] = "once " + everyProxy + ": " + steps[1]
	}
	c.inSteps(diag.CodeAbrupt, steps...)
}

// federation tells of trust domains of others. Whom grants let in from there has lines of its own.
func (c *comparison) federation(whole func(Class, What, string, string)) {
	both := func(path string) {
		p := &c.found[len(c.found)-1]
		p.before, p.after = []space.Origin{space.Origin(path)}, []space.Origin{space.Origin(path)}
	}
	for _, a := range c.after.Federation {
		b, had := domainNamed(c.before.Federation, a.Name)
		switch more, fewer := without(a.Roots, b.Roots), without(b.Roots, a.Roots); {
		case !had:
			whole(Neutral, FederationNew, "", a.Name)
			c.found[len(c.found)-1].after = []space.Origin{space.Origin(model.FederationPath(a.Name))}
		default:
			if len(more) > 0 {
				whole(Widening, FederationMore, a.Name, a.Name)
				both(model.FederationPath(a.Name))
			}
			if len(fewer) > 0 {
				whole(Narrowing, FederationFewer, a.Name, a.Name)
				both(model.FederationPath(a.Name))
			}
		}
	}
	for _, b := range c.before.Federation {
		if _, has := domainNamed(c.after.Federation, b.Name); !has {
			whole(Neutral, FederationGone, b.Name, "")
			c.found[len(c.found)-1].before = []space.Origin{space.Origin(model.FederationPath(b.Name))}
		}
	}
}

func domainNamed(ds []model.TrustDomain, name string) (model.TrustDomain, bool) {
	i := slices.IndexFunc(ds, func(d model.TrustDomain) bool { return d.Name == name })
	if i < 0 {
		return model.TrustDomain{}, false
	}
	return ds[i], true
}
