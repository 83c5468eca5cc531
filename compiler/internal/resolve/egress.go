package resolve

import (
	"slices"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
)

// egressOf is the mode of what a service sends to where nothing is declared.
func (l *linker) egressOf(p *pkg, s *model.Service, n intent.Node) model.Openness {
	a := l.egress(n, l.egresses[p])
	mode := model.OpennessOf(a.Field("mode").Str())
	if mode != "" {
		path := model.EgressPath(s.ID)
		l.place(path, a.Pos())
		l.exceptions = append(l.exceptions, Exception{Path: path, Kind: "egress", Mode: string(mode), Owner: a.Field("owner").Str(), Reason: a.Field("reason").Str(), Until: a.Field("until").Str()})
	}
	return mode
}

// checkEgress tells of modes of egress of which nothing comes: where nothing is redirected, where there is no proxy, and
// where another service of the same account, whose proxies have the same configuration, keeps closed what they open.
func (l *linker) checkEgress() {
	tightest := map[release.Class]*model.Service{}
	for _, s := range l.mesh.Services {
		for _, c := range classesOf(s) {
			if t := tightest[c]; t == nil || s.Egress.Tighter(t.Egress) {
				tightest[c] = s
			}
		}
	}
	told := map[diag.Pos]bool{}
	for _, s := range l.mesh.Services {
		at := l.lineOf(model.EgressPath(s.ID))
		if s.Egress == "" || told[at] {
			continue
		}
		nothing := func(fix, why string, args ...any) {
			told[at] = true
			l.add(diag.Warn(diag.CodeNever, at, "nothing comes of egress mode %q: "+why, append([]any{s.Egress}, args...)...).WithFix("%s", fix))
		}
		if l.mesh.Capture == model.Explicit {
			nothing(`leave it out, or let this environment say capture: "transparent"`, `with capture "explicit" applications give their proxy what they call, and reach all else past it`)
			continue
		}
		if !slices.ContainsFunc(s.Versions, func(v model.Version) bool { return !v.Proxyless }) {
			nothing("leave it out", "%q has no proxy, and its program reaches what it dials", s.ID)
			continue
		}
		for _, c := range classesOf(s) {
			if t := tightest[c]; t.Egress.Tighter(s.Egress) {
				nothing("give both the same mode, or an account of its own to each", "%q runs as the same account as %q, which has a tighter one: it counts for the proxies of both", s.ID, t.ID)
				break
			}
		}
	}
}

func classesOf(s *model.Service) []release.Class {
	var out []release.Class
	for _, v := range s.Versions {
		out = append(out, s.Classes(v)...)
	}
	return out
}
