package approval

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/internal/diag"
)

// Part is a package of the intent as the rules see it: paths in the repository.
type Part struct {
	// Name is how the package is called, Owner who answers for it.
	Name, Owner string
	// Root says that it is the root package, whose words hold for the whole mesh.
	Root bool
	// Folder is where its files lie, "." the repository's top.
	Folder string
	Files  []string
	// Overlays are the folders of environments whose files join it, and those files.
	OverlayFolders, Overlays []string
	Pos                      diag.Pos
}

// newFile stands for a file that is not there yet: whoever may add one may say
// whatever the package may. No file is called so.
const newFile = "<new>.cue"

// Disagreements warns where the rules give the files of a package to others than
// they should: no rule, different signers for files of one package, an environment's
// files under other signers than the package that they join, and one rule for
// packages of several owners. The root package's signers decide for the whole mesh
// anyway: that their rule covers what has none of its own is no news.
func (t Trust) Disagreements(parts []Part) diag.List {
	a := agreement{trust: t}
	for _, p := range parts {
		if p.Root {
			a.root, _ = t.RuleFor(path.Join(p.Folder, newFile))
		}
	}
	for _, p := range parts {
		a.part(p)
	}
	a.owners(parts)
	return a.found
}

// Undeclared warns of environments for which nothing can be approved: the intent declares others.
func (t Trust) Undeclared(declared []string) diag.List {
	var out diag.List
	for _, name := range slices.Sorted(maps.Keys(t.Environments)) {
		if slices.Contains(declared, name) {
			continue
		}
		fix := "declare it in the root package, mesh: environment: " + strconv.Quote(name) + ": {}, or delete it here"
		if near, ok := diag.Nearest(name, declared); ok {
			fix = "did you mean " + strconv.Quote(near) + "?"
		}
		out = append(out, diag.Warn(diag.CodeTrustEnvironment, t.Environments[name].Pos, "environment %q of the trust policy is none of the intent's (%s): nothing can be approved for it", name, strings.Join(declared, ", ")).
			WithFix("%s", fix))
	}
	return out
}

// change words what is done to a file.
func change(file string) string {
	if path.Base(file) == newFile {
		return fmt.Sprintf("add a file to %q", path.Dir(file))
	}
	return fmt.Sprintf("change %q", file)
}

type agreement struct {
	trust Trust
	root  Rule
	found diag.List
}

func (a *agreement) warn(at diag.Pos, fix, format string, args ...any) {
	a.found = append(a.found, diag.Warn(diag.CodeTrustOwners, at, format, args...).WithFix("%s", fix))
}

func (a *agreement) part(p Part) {
	own := append(slices.Clone(p.Files), a.possible(p.Folder)...)
	base, ok := a.trust.RuleFor(own[0])
	for _, file := range own {
		r, covered := a.trust.RuleFor(file)
		if !ok || !covered {
			a.warn(p.Pos, fmt.Sprintf("add a rule for %q", path.Join(p.Folder, "**")), "no rule of the trust policy covers %q of package %q: nobody can approve a change of it", file, p.Name)
			return
		}
		who, other := r.beyond(base), own[0]
		if who == "" {
			who, other, file = base.beyond(r), file, own[0]
		}
		if who != "" {
			a.warn(p.Pos, "give all files of a package to the same signers", "%s may %s, but not %s, of the same package %q", who, change(file), change(other), p.Name)
			return
		}
	}
	for _, file := range p.Overlays {
		if a.overlay(p, base, file, false) {
			return
		}
	}
	for _, folder := range p.OverlayFolders {
		for _, file := range a.possible(folder) {
			if a.overlay(p, base, file, true) {
				return
			}
		}
	}
}

// overlay warns if somebody may change or add a file of an environment who may not
// change the package that it joins.
func (a *agreement) overlay(p Part, base Rule, file string, added bool) bool {
	r, ok := a.trust.RuleFor(file)
	if !ok && !added {
		a.warn(p.Pos, "add a rule for it", "no rule of the trust policy covers %q, which joins package %q: nobody can approve a change of it", file, p.Name)
		return true
	}
	who := r.beyond(base)
	if !ok || who == "" || added && r.same(a.root) {
		return false
	}
	a.warn(p.Pos, fmt.Sprintf("add %q to the paths of the package's rule", path.Join(path.Dir(file), "**")),
		"%s may %s, which joins package %q of %s, but may not change the package itself", who, change(file), p.Name, p.Owner)
	return true
}

// possible are files that could be added to a folder and that some rule tells apart.
func (a *agreement) possible(folder string) []string {
	out := []string{path.Join(folder, newFile)}
	for _, r := range a.trust.Rules {
		for _, s := range r.Paths {
			name := path.Base(s)
			if file := path.Join(folder, name); strings.HasSuffix(name, ".cue") && split(s).matches(file) && !slices.Contains(out, file) {
				out = append(out, file)
			}
		}
	}
	return out
}

// owners warns of rules that make no difference between packages of several owners.
func (a *agreement) owners(parts []Part) {
	type group struct {
		rule          Rule
		names, owners []string
		at            diag.Pos
	}
	var groups []*group
	for _, p := range parts {
		r, ok := a.trust.RuleFor(path.Join(p.Folder, newFile))
		if !ok || p.Root {
			continue
		}
		i := slices.IndexFunc(groups, func(g *group) bool { return g.rule.same(r) })
		if i < 0 {
			groups, i = append(groups, &group{rule: r, at: p.Pos}), len(groups)
		}
		g := groups[i]
		g.names = append(g.names, fmt.Sprintf("%q of %s", p.Name, p.Owner))
		if !slices.Contains(g.owners, p.Owner) {
			g.owners = append(g.owners, p.Owner)
		}
	}
	for _, g := range groups {
		if len(g.owners) > 1 {
			a.warn(g.at, "give each owner's folder a rule with the owner's signers", "the rule for %s makes no difference between the owners of packages %s: who may change one may change the others",
				strings.Join(g.rule.Paths, ", "), fewNames(g.names))
		}
	}
}

func fewNames(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// same reports whether two rules are one: a path stands in one rule only.
func (r Rule) same(o Rule) bool { return slices.Equal(r.Paths, o.Paths) }

// beyond says who can approve what r governs and not what o governs, "" for nobody.
func (r Rule) beyond(o Rule) string {
	var extra []string
	for _, s := range r.Signers {
		if !slices.Contains(o.Signers, s) {
			extra = append(extra, s)
		}
	}
	switch {
	case len(extra) > 0:
		return strings.Join(extra, ", ")
	case r.Threshold < o.Threshold:
		return fmt.Sprintf("%d of %s", r.Threshold, strings.Join(r.Signers, ", "))
	case o.RequireTags && !r.RequireTags:
		return strings.Join(r.Signers, ", ") + " without an approval tag"
	}
	return ""
}
