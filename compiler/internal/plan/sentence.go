package plan

import (
	"slices"
	"strconv"
	"strings"

	"meshc.dev/meshc/compiler/internal/space"
)

// Say makes the text of a line of its other fields.
func (l Line) Say(words Words) string {
	text := strings.ReplaceAll(l.Says.text(l.place(), words), self, "<service>")
	switch about := partsText(l.Requests); {
	case l.Access != nil && l.Says.What == AccessOf:
		text = "from " + l.callersText() + ": " + l.Access.area() + ": " + text
	case l.Access != nil: // an external is called, or not
		text = "from " + l.callersText() + ": " + text
	case about != "":
		text = about + ": " + text
	}
	return text + triesWords(l.Kind, l.Tries)
}

// place is where a line's sentence is read.
func (l Line) place() place {
	p := place{own: self}
	var names, ports []string
	for _, at := range l.At {
		_, name, _ := strings.Cut(at.ID, "/")
		names, ports = appendNew(names, name), appendNew(ports, at.Port)
	}
	if len(names) == 1 {
		p.own = names[0]
	}
	if len(ports) == 1 {
		p.port = ports[0]
	}
	p.near = namespaceOf(l.At)
	return p
}

// namespaceOf is the namespace of all scopes, "" if they have several.
func namespaceOf(at []space.Scope) string {
	var out []string
	for _, s := range at {
		ns, _, _ := strings.Cut(s.ID, "/")
		out = appendNew(out, ns)
	}
	if len(out) != 1 {
		return ""
	}
	return out[0]
}

// callersText says who gains or loses access. Where that is not the same at all scopes, it
// says so.
func (l Line) callersText() string {
	if len(l.Access.Each) == 0 {
		return callerSet{l.Access.Callers, l.Access.Except, l.Access.Rough}.text(namespaceOf(l.At))
	}
	all := make([]string, len(l.Access.Callers))
	for i, c := range l.Access.Callers {
		all[i] = c.text("")
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return "callers of each, " + strconv.Itoa(len(all)) + " in all (" + limited(all, ", ", 5) + ")"
}

// area says what it is access to: "GET /reviews/*", "everything".
func (a Access) area() string { return area(a.Methods, a.Paths, a.Conditions) }
