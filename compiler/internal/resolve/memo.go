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
	"meshc.dev/meshc/internal/diag"
)

// Memo remembers the links of packages from one run to the next, so that an edit
// costs what it touches. It goes with one set of rules. It is safe for concurrent
// use; a run with a Memo gives what a run without one gives.
//
// Objects that did not change keep their pointers from run to run, so whoever
// works on a mesh may take an equal pointer for an equal object.
type Memo struct {
	mu   sync.Mutex
	last map[string]*linked // by folder
}

// NewMemo makes an empty Memo.
func NewMemo() *Memo { return &Memo{} }

func (m *Memo) load() map[string]*linked {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last
}

// keep replaces what was remembered, so that a memo never holds more than one mesh.
func (m *Memo) keep(now map[string]*linked) {
	if m == nil {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = now
}

// linked is the link of one package and all that it depends on. Immutable.
type linked struct {
	// What it depends on: the package, its frame, what names mean, and the compile
	// date, as far as something in the package ends.
	from      *intent.Package
	namespace string
	owner     string
	guest     bool
	mtls      model.MTLS
	tables    [sha256.Size]byte
	dates     span

	diags      diag.List // of ends that have passed only, which name no other package
	services   []*model.Service
	forms      [][]byte // the services' JSON
	externals  []*model.External
	pos        map[string]diag.Pos
	expiries   map[time.Time]bool
	exceptions []Exception
	owners     map[string]string
	plain      []plainWish
}

// holds reports whether k is the link of p.
func (k *linked) holds(p *pkg, tables [sha256.Size]byte, at time.Time) bool {
	return k != nil && k.from == p.from && k.namespace == p.namespace && k.owner == p.owner && k.guest == p.guest && k.mtls == p.mtls &&
		k.tables == tables && k.dates.holds(at)
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

// digest is that of all tables that linking looks names up in.
func (l *linker) digest() [sha256.Size]byte {
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
	line("mesh", l.mesh.Environment, l.mesh.TrustDomain, string(l.mesh.Capture))
	for _, id := range slices.Sorted(maps.Keys(l.kinds)) {
		line("kind", id, l.kinds[id])
		line("ports", id, l.ports[id]...)
		line("versions", id, l.versions[id]...)
	}
	for _, id := range slices.Sorted(maps.Keys(l.accounts)) {
		line("accounts", id, l.accounts[id]...)
	}
	line("namespaces", "", sortedKeys(l.domains)...)
	for _, id := range slices.Sorted(maps.Keys(l.gateways)) {
		line("gateway", id, l.gateways[id])
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// linkAll links every package, those that the memo knows without work.
func (l *linker) linkAll(pkgs []*pkg, memo *Memo) {
	if memo == nil || l.diags.HasErrors() {
		for _, p := range pkgs {
			l.link(p)
		}
		return
	}
	before, now, tables := memo.load(), map[string]*linked{}, l.digest()
	places := len(l.pos)
	for _, k := range before {
		places += len(k.pos)
	}
	roomy := make(map[string]diag.Pos, places)
	maps.Copy(roomy, l.pos)
	l.pos = roomy
	for _, p := range pkgs {
		if len(p.node.Field("gateway").Fields()) > 0 {
			l.link(p) // which package may have a host depends on the others
			continue
		}
		k := before[p.dir]
		if !k.holds(p, tables, l.at) {
			k = l.linkAlone(p, k, tables)
		}
		if k != nil {
			l.merge(k)
			now[p.dir] = k
		}
	}
	memo.keep(now)
}

// linkAlone links a package with nothing but the tables to look at. A package
// with problems, other than things that have ended, is not for keeping: it is linked among the others, whose lines its
// problems name, and nil is returned. Nor is one that cannot be encoded, which
// whoever encodes the mesh will report.
func (l *linker) linkAlone(p *pkg, before *linked, tables [sha256.Size]byte) *linked {
	alone := *l
	alone.mesh = &model.Mesh{Environment: l.mesh.Environment, TrustDomain: l.mesh.TrustDomain, Capture: l.mesh.Capture}
	alone.pos, alone.expiries, alone.owners = map[string]diag.Pos{}, map[time.Time]bool{}, map[string]string{}
	alone.diags, alone.exceptions, alone.plain, alone.dates = nil, nil, nil, span{}
	alone.link(p)
	k := &linked{
		from: p.from, namespace: p.namespace, owner: p.owner, guest: p.guest, mtls: p.mtls, tables: tables, dates: alone.dates, diags: alone.diags,
		services: alone.mesh.Services, externals: alone.mesh.Externals, pos: alone.pos, expiries: alone.expiries,
		exceptions: alone.exceptions, owners: alone.owners, plain: alone.plain,
	}
	other := slices.ContainsFunc(alone.diags, func(d diag.Diagnostic) bool { return d.Code != diag.CodeExpired })
	if other || k.intern(before) != nil {
		l.link(p)
		return nil
	}
	return k
}

// intern notes the services' forms and puts the services of before in the place
// of equal ones.
func (k *linked) intern(before *linked) error {
	old := map[string]int{}
	if before != nil {
		for i, s := range before.services {
			old[s.ID] = i
		}
	}
	for i, s := range k.services {
		form, err := json.Marshal(s)
		if err != nil {
			return fmt.Errorf("encoding service %q: %w", s.ID, err)
		}
		k.forms = append(k.forms, form)
		if j, ok := old[s.ID]; ok && bytes.Equal(form, before.forms[j]) {
			k.services[i], k.forms[i] = before.services[j], before.forms[j]
		}
	}
	return nil
}

func (l *linker) merge(k *linked) {
	l.mesh.Services = append(l.mesh.Services, k.services...)
	l.mesh.Externals = append(l.mesh.Externals, k.externals...)
	for path, at := range k.pos {
		l.place(path, at)
	}
	maps.Copy(l.expiries, k.expiries)
	maps.Copy(l.owners, k.owners)
	l.exceptions = append(l.exceptions, k.exceptions...)
	l.plain = append(l.plain, k.plain...)
	l.diags = append(l.diags, k.diags...)
}
