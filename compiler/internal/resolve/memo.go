package resolve

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/parallel"
)

// Memo remembers what intent declares, and the links of services and externals, from
// one run to the next, so that an edit, or another date, costs what it touches. It
// goes with one set of rules. It is safe for concurrent use; a run with a Memo
// gives what a run without one gives.
//
// Objects that did not change keep their pointers from run to run, so whoever
// works on a mesh may take an equal pointer for an equal object.
type Memo struct {
	mu    sync.Mutex
	names *declared
	last  map[string]*linked      // by mesh path
	sound map[*model.Service]bool // those in which the rules about single ones found nothing
}

// NewMemo makes an empty Memo.
func NewMemo() *Memo { return &Memo{} }

// declared is what this very intent declares, nil if that is not known.
func (m *Memo) declared(in *intent.Intent) *declared {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.names == nil || m.names.from != in {
		return nil
	}
	return m.names
}

func (m *Memo) load() map[string]*linked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// keep replaces what was remembered, so that a memo never holds more than one mesh.
func (m *Memo) keep(names *declared, now map[string]*linked) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names, m.last = names, now
}

// unproven are the services of a mesh in which rules about single ones may find something:
// those in which they have not found nothing before.
func (m *Memo) unproven(mesh *model.Mesh) []*model.Service {
	if m == nil {
		return mesh.Services
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(mesh.Services), func(s *model.Service) bool { return m.sound[s] })
}

// proved notes in which services of a mesh the rules about single ones found nothing: all but those.
func (m *Memo) proved(mesh *model.Mesh, but map[*model.Service]bool) {
	if m == nil {
		return
	}
	sound := make(map[*model.Service]bool, len(mesh.Services))
	for _, s := range mesh.Services {
		if !but[s] {
			sound[s] = true
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sound = sound
}

// linked is the link of one unit and all that it depends on. Immutable.
type linked struct {
	// What it depends on: the package, its frame, what names mean, and the compile
	// date, as far as something in the unit ends, and the files that it names.
	from      *intent.Package
	namespace string
	owner     string
	guest     bool
	mtls      model.MTLS
	above     string // keyOf mtlsAbove
	open      string // keyOf of access and of egress
	around    [2]*intent.Package
	tables    [sha256.Size]byte
	dates     span
	named     map[naming][]intent.Beside

	diags      diag.List // of ends that have passed only, which name no other package
	service    *model.Service
	form       []byte // the service's JSON
	externals  []*model.External
	places     *release.Provenance
	endings    map[ending]bool
	exceptions []Exception
	owners     map[string]string
}

// holds reports whether k is the link of a unit of p; around are p's surroundings.
func (l *linker) holds(k *linked, p *pkg, around [2]*intent.Package) bool {
	return k != nil && k.from == p.from && k.namespace == p.namespace && k.owner == p.owner && k.guest == p.guest && k.mtls == l.modes[p] && k.above == keyOf(l.mtlsAbove(p)...) && k.open == keyOf(l.accesses[p], l.egresses[p]) && k.around == around &&
		k.tables == l.digest && k.dates.holds(l.at) && l.stillNamed(k.named)
}

// span is the dates between two ends of something temporary: at all of them the
// same things have ended. The zero span is all dates.
type span struct {
	after, until time.Time // zero: no bound; after is outside, until inside
}

func (s span) holds(at time.Time) bool {
	return (s.after.IsZero() || at.After(s.after)) && (s.until.IsZero() || !at.After(s.until))
}

// note narrows the span, seen from one of its dates, by an end.
func (s *span) note(end time.Time, passed bool) {
	switch {
	case passed && end.After(s.after):
		s.after = end
	case !passed && (s.until.IsZero() || end.Before(s.until)):
		s.until = end
	}
}

// tables is the digest of all tables that linking looks names up in.
func (l *declared) tables(env string) [sha256.Size]byte {
	h := sha256.New()
	var b []byte
	line := func(kind, id string, values ...string) {
		b = append(append(b[:0], kind...), '\n')
		for _, v := range append([]string{id}, values...) {
			b = strconv.AppendInt(b, int64(len(v)), 10)
			b = append(append(b, ' '), v...)
		}
		h.Write(append(b, '\n'))
	}
	line("mesh", env, l.trustDomain, string(l.capture))
	line("aliases", "", domainNames(l.aliases)...)
	line("federation", "", domainNames(l.federation)...)
	l.destinations(line)
	for _, name := range slices.Sorted(maps.Keys(l.collectors)) {
		c := l.collectors[name]
		line("collector", name, string(c.Kind), c.To, c.Port, c.Version, c.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(l.limiters)) {
		c := l.limiters[name]
		line("limiter", name, c.To, c.Port, c.Version, c.Domain, c.Timeout.String())
	}
	whole(line, "provider", l.providers)
	whole(line, "login", l.logins)
	whole(line, "authorizer", l.authorizers)
	whole(line, "workloads", l.workloads)
	line("namespaces", "", sortedKeys(l.domains)...)
	for _, id := range slices.Sorted(maps.Keys(l.gateways)) {
		line("gateway", id, l.gateways[id])
		line("way out", id, l.waysOut[id].text()...)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// destinations writes what names of services and externals stand for.
func (l *declared) destinations(line func(kind, id string, values ...string)) {
	for _, id := range slices.Sorted(maps.Keys(l.kinds)) {
		line("kind", id, l.kinds[id])
		for _, p := range l.ports[id] {
			line("port", id, p.Name, strconv.FormatUint(uint64(p.Number), 10), string(p.Protocol), strconv.FormatBool(p.Main))
		}
		line("versions", id, l.versions[id]...)
		for _, p := range l.ports[id] {
			if d, ok := l.described[portKey(id, p.Name)]; ok {
				line("described", id, p.Name, d.digest)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
		line("accounts", id, l.accounts[id]...)
		for _, f := range l.former[id] {
			line("former", id, f.account, f.until)
		}
	}
}

// whole writes all that a table has, which are texts and numbers.
func whole[T any](line func(kind, id string, values ...string), kind string, table map[string]T) {
	for _, id := range slices.Sorted(maps.Keys(table)) {
		raw, _ := json.Marshal(table[id])
		line(kind, id, string(raw))
	}
}

// linkAll links every package, what the memo knows without work.
func (l *linker) linkAll(memo *Memo) {
	if memo == nil || l.diags.HasErrors() {
		for _, p := range l.pkgs {
			for _, u := range p.units() {
				l.linkUnit(p, u)
			}
			l.linkGateways(p)
		}
		return
	}
	before := memo.load()
	alone := l.linkEach(before)
	now := make(map[string]*linked, len(alone))
	for _, p := range l.pkgs {
		for _, u := range p.units() {
			path := p.pathOf(u)
			if k := alone[path]; k != nil {
				l.merge(path, k)
				now[path] = k
				continue
			}
			l.linkUnit(p, u)
		}
		l.linkGateways(p)
	}
	memo.keep(l.declared, now)
}

// linkEach links every unit with nothing but the names to look at, several at once. Those for
// keeping are returned, by mesh path.
func (l *linker) linkEach(before map[string]*linked) map[string]*linked {
	type task struct {
		p      *pkg
		u      unit
		around [2]*intent.Package
		path   string
		link   *linked
	}
	out := map[string]*linked{}
	var tasks []task
	for _, p := range l.pkgs {
		around := l.surroundings(p)
		for _, u := range p.units() {
			path := p.pathOf(u)
			if k := before[path]; l.holds(k, p, around) {
				out[path] = k
			} else {
				tasks = append(tasks, task{p, u, around, path, nil})
			}
		}
	}
	parallel.Each(len(tasks), func(i int) {
		t := &tasks[i]
		t.link = l.linkAlone(t.p, t.u, t.around, before[t.path])
	})
	for _, t := range tasks {
		out[t.path] = t.link
	}
	return out
}

// pathOf is the mesh path of what a unit declares.
func (p *pkg) pathOf(u unit) string {
	if u.external {
		return model.ExternalPath(p.namespace + "/" + u.Name)
	}
	return model.ServicePath(p.namespace + "/" + u.Name)
}

// linkAlone links a unit with nothing but the names to look at, and changes nothing of the
// run's. A unit with problems, other than things that have ended, is not for keeping, and nil:
// it is to be linked among the others, whose lines its problems name. Nor is one that
// cannot be encoded, which whoever encodes the mesh will report.
func (l *linker) linkAlone(p *pkg, u unit, around [2]*intent.Package, before *linked) *linked {
	alone := *l
	alone.mesh = &model.Mesh{Environment: l.mesh.Environment, TrustDomain: l.mesh.TrustDomain, Capture: l.mesh.Capture, Aliases: l.mesh.Aliases, Federation: l.mesh.Federation}
	alone.begin(nil)
	alone.endings, alone.owners, alone.broken = map[ending]bool{}, map[string]string{}, map[string]bool{}
	alone.diags, alone.exceptions, alone.dates, alone.named = nil, nil, span{}, nil
	alone.linkUnit(p, u)
	k := &linked{
		from: p.from, namespace: p.namespace, owner: p.owner, guest: p.guest, mtls: l.modes[p], above: keyOf(l.mtlsAbove(p)...), open: keyOf(l.accesses[p], l.egresses[p]), around: around, tables: l.digest, dates: alone.dates, named: alone.named, diags: alone.diags,
		externals: alone.mesh.Externals, places: alone.own, endings: alone.endings, exceptions: alone.exceptions, owners: alone.owners,
	}
	maps.DeleteFunc(*alone.own, func(path string, _ diag.Pos) bool { // what is declared has its line
		_, ok := l.pos.At(path)
		return ok
	})
	other := slices.ContainsFunc(alone.diags, func(d diag.Diagnostic) bool { return d.Code != diag.CodeExpired })
	if len(alone.mesh.Services) > 0 {
		k.service = alone.mesh.Services[0]
	}
	if other || k.intern(before) != nil {
		return nil
	}
	return k
}

// intern notes the service's form and puts the service of before in its place if
// they are equal.
func (k *linked) intern(before *linked) (err error) {
	if k.service == nil {
		return nil
	}
	if k.form, err = json.Marshal(k.service); err != nil {
		return fmt.Errorf("encoding service %q: %w", k.service.ID, err)
	}
	if before != nil && bytes.Equal(k.form, before.form) {
		k.service, k.form = before.service, before.form
	}
	return nil
}

// merge takes the link of the unit with that mesh path.
func (l *linker) merge(path string, k *linked) {
	if k.service != nil {
		l.mesh.Services = append(l.mesh.Services, k.service)
	}
	l.mesh.Externals = append(l.mesh.Externals, k.externals...)
	l.units[path] = k.places
	maps.Copy(l.endings, k.endings)
	maps.Copy(l.owners, k.owners)
	for n, found := range k.named {
		l.note(n, found)
	}
	l.exceptions = append(l.exceptions, k.exceptions...)
	l.diags = append(l.diags, k.diags...)
}
