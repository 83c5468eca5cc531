package importer

import (
	"fmt"
	"slices"

	"meshc.dev/meshc/internal/diag"
)

// module says that the folder is a module of CUE.
const module = "module: \"example.com/mesh@v0\"\nlanguage: version: %q\n"

// draft is intent that is being written.
type draft interface {
	// depend leaves out what leads to something that is left out.
	depend()
	files() ([]File, error)
	// blame leaves out what a problem is about.
	blame(files []File, d diag.Diagnostic)
	// alive counts what is written.
	alive() int
}

// settle writes the intent, and leaves out what does not compile until the rest does.
func settle(w draft, check Check) ([]File, error) {
	for range w.alive() + 1 {
		w.depend()
		files, err := w.files()
		if err != nil || len(files) == 0 {
			return nil, err
		}
		problems, err := check(files)
		if err != nil || !problems.HasErrors() {
			return files, err
		}
		before := w.alive()
		for _, d := range problems {
			if d.IsError() {
				w.blame(files, d)
			}
		}
		if w.alive() == before {
			return nil, &diag.ListError{List: problems}
		}
	}
	return nil, nil
}

// depend drops hosts that lead to services that are not written, or are around hosts that are not.
func (w *world) depend() {
	defer w.around()
	for _, h := range w.units {
		if h.dropped {
			continue
		}
		for _, s := range w.services {
			if _, leads := h.to[s]; leads && s.dropped {
				w.drop(h, diag.CodeImportWhole, h.gateway.o.top().at(), "it leads to "+s.o.String()+", which is not translated", "mend what is told of the Service")
				break
			}
		}
	}
}

// around drops hosts that would take the requests of one that is not written.
func (w *world) around() {
	for again := true; again; {
		again = false
		for _, d := range w.units {
			for _, h := range w.units {
				if d.dropped && !h.dropped && h.gateway == d.gateway && within(d.name, h.name) {
					again = true
					w.drop(h, diag.CodeImportWhole, h.where(nil), fmt.Sprintf("it would take the requests of host %q, which is not written", d.name), "mend what is told of that host, or write it by hand")
				}
			}
		}
	}
}

// alive counts what is written.
func (w *world) alive() int {
	n := 0
	for _, h := range w.units {
		if !h.dropped {
			n++
		}
	}
	for _, s := range w.services {
		if !s.dropped {
			n++
		}
	}
	return n
}

// blame leaves out what a problem is about.
func (w *world) blame(files []File, d diag.Diagnostic) {
	at := slices.IndexFunc(files, func(f File) bool { return f.Path == d.Pos.File })
	if at < 0 {
		return
	}
	path := pathAt(files[at], d.Pos.Line)
	if len(path) < 3 {
		return
	}
	why := fmt.Sprintf("intent cannot say it, by %s: %s", d.Code, d.Text)
	way := d.Fix
	if way == "" {
		way = "see `meshc explain " + string(d.Code) + "`"
	}
	for _, s := range w.services {
		if folder, _ := folderOf(s.o.ns); path[1] == "service" && path[2] == s.o.name_ && files[at].Path == folder+"/"+folder+".cue" && !s.dropped {
			s.dropped, s.o.broken = true, true
			w.findings = append(w.findings, diag.New(diag.CodeImportValue, s.o.top().at(), "%s is not written: %s", s.o, why).WithFix("%s", way))
		}
	}
	for _, h := range w.units {
		folder, _ := folderOf(h.gateway.o.ns)
		in := files[at].Path == folder+"/"+folder+".cue" && !h.dropped && (path[1] == "certificate" || path[1] == "gateway" && path[2] == h.gateway.o.name_)
		if in && (len(path) < 5 || path[3] != "host" || path[4] == h.name) {
			w.drop(h, diag.CodeImportValue, h.where(path), why, way)
		}
	}
}

// where is the rule of a route of intent, else the first HTTPRoute that is about the host.
func (h *host) where(path []string) diag.Pos {
	if len(path) > 6 && path[5] == "route" && h.rules[path[6]] != nil {
		return h.rules[path[6]].at.at()
	}
	for _, l := range h.gateway.listeners {
		for _, r := range h.at[l] {
			return r.o.top().at()
		}
	}
	return h.gateway.o.top().at()
}

// files are the intent of all that is not dropped.
func (w *world) files() ([]File, error) {
	pages := map[string]*tree{}
	page_ := func(ns string) *tree {
		if pages[ns] == nil {
			pages[ns] = &tree{}
		}
		return pages[ns]
	}
	doors := map[*service]map[string][]string{}
	for _, h := range w.units {
		for s, ports := range h.to {
			if !h.dropped {
				if doors[s] == nil {
					doors[s] = map[string][]string{}
				}
				doors[s][h.gateway.o.id()] = append(doors[s][h.gateway.o.id()], ports...)
			}
		}
	}
	for _, s := range w.services {
		if !s.dropped {
			page_(s.o.ns).child("service").put(s.o.name_, s.tree(doors[s]))
		}
	}
	for _, g := range w.gateways {
		if t, certificates := w.gatewayTree(g); t != nil {
			w.certificateTrees(g.o.ns, certificates, page_(g.o.ns))
			page_(g.o.ns).child("gateway").put(g.o.name_, t)
		}
	}
	if len(pages) == 0 {
		return nil, nil
	}
	return w.written([]byte(root), pages)
}

// written are the files of a root package and of the namespaces.
func (w *world) written(root []byte, pages map[string]*tree) ([]File, error) {
	out := []File{{"cue.mod/module.cue", fmt.Appendf(nil, module, w.language)}, {"mesh.cue", root}}
	for _, ns := range sortedKeys(pages) {
		f, err := page(ns, pages[ns])
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	return out, nil
}

// certificateTrees adds the certificates of a gateway's Secrets, but for those that another
// gateway of the namespace shows as well.
func (w *world) certificateTrees(ns string, secrets []string, page *tree) {
	for _, c := range secrets {
		name, t := w.certificates[ns][c], &tree{}
		t.add("secret", quote(c))
		if !page.holds("certificate", name) {
			page.child("certificate").put(name, t)
		}
	}
}

// gatewayTree is a gateway with its hosts, nil if it has none; and the Secrets that they show.
func (w *world) gatewayTree(g *gateway) (out *tree, certificates []string) {
	hosts, used := &tree{}, map[int]bool{}
	for _, h := range w.units {
		if h.gateway != g || h.dropped {
			continue
		}
		hosts.put(h.name, h.out)
		for l := range h.at {
			used[l.port] = true
			certificates = append(certificates, l.certificates...)
		}
	}
	if len(hosts.fields) == 0 {
		return nil, nil
	}
	out = &tree{}
	for _, name := range sortedKeys(g.ports()) {
		l := g.ports()[name]
		if !used[l.port] {
			continue
		}
		p := &tree{}
		out.child("port").put(name, p)
		if p.add("number", fmt.Sprint(l.port)); l.https {
			p.add("protocol", `"https"`)
		}
	}
	out.put("host", hosts)
	slices.Sort(certificates)
	return out, slices.Compact(certificates)
}

// unused tells of listeners at which nothing is written.
func (w *world) unused() {
	for _, g := range w.gateways {
		for _, l := range g.listeners {
			if !l.bad && !slices.ContainsFunc(w.units, func(h *host) bool { return h.gateway == g && h.at[l] != nil }) {
				l.at.note(diag.Warning, diag.CodeImportLeft, "has no routes: it answers 404, and in intent its port is closed where nothing else is at it").fix("nothing, or write a host for it")
			}
		}
	}
}
