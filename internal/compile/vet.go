package compile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Vetted is what became of a check.
type Vetted struct {
	Release  release.Release // the zero Release if it does not compile, or nobody asked for it
	Packages []compiler.Package
	Problems diag.List
	Told     string            // what was looked at, in words
	Program  *compiler.Program // nil if it does not compile, or nobody asked for it
}

// Vet asks the targets and the policies about intent. The release is whole, as Envoy gets
// it. Like Load, it belongs inside Within.
func (c *Compiler) Vet(ctx context.Context, fsys fs.FS, o compiler.Options, user Rego) (Vetted, error) {
	s, ds := compiler.Read(fsys)
	v, _, err := c.vet(ctx, s, ds, o, user, (*compiler.Program).Release)
	return v, err
}

// Revet is Vet for somebody who asks only what is wrong: without the release, and without
// the packages. What this program found sound on this machine is sound still; so it is told
// again, as long as no date and no rule can have changed that.
func (c *Compiler) Revet(ctx context.Context, fsys fs.FS, o compiler.Options, user Rego) (Vetted, error) {
	s, ds := compiler.Read(fsys)
	always, then := c.verdictKeys(s, o, user)
	for _, key := range []string{always, then} {
		if v, ok := c.recall(key); ok {
			return v, nil
		}
	}
	v, timeless, err := c.vet(ctx, s, ds, o, user, c.Checked)
	if err == nil && !v.Problems.HasErrors() {
		if timeless {
			then = always
		}
		c.remember(then, v)
	}
	return Vetted{Problems: v.Problems, Told: v.Told}, err
}

// vet also says whether the same files are judged alike at every date.
func (c *Compiler) vet(ctx context.Context, s compiler.Source, read diag.List, o compiler.Options, user Rego, check func(*compiler.Program) (release.Release, diag.List)) (v Vetted, timeless bool, err error) {
	court, ds := c.Convene(ctx, user)
	var more diag.List
	o.Policy, more = court.Policy()
	ds = slices.Concat(read, ds, more)
	if read.HasErrors() {
		return Vetted{Problems: ds}, false, nil
	}
	p, more, err := c.load(ctx, s, o)
	ds = append(ds, more...)
	if err != nil || p == nil {
		return Vetted{Problems: ds}, false, err
	}
	r, more := check(p)
	res, err := court.Judge(ctx, Case{Program: p, At: o.At, Release: r})
	if more = slices.Concat(ds, more, res.Findings); err == nil && !more.HasErrors() {
		ds, err = c.Ahead(ctx, court, p, nil, more)
		more = append(more, ds...)
	}
	told := fmt.Sprintf("%d proxy classes, %d policies evaluated", len(p.Classes()), res.Evaluated) + losses(p.Losses())
	return Vetted{r, p.Packages(), more, told, p}, !endsAnywhere(s) && court.timeless(), err
}

// losses says in short what targets go without. They are sorted by target.
func losses(ls []release.Loss) string {
	out := ""
	for len(ls) > 0 {
		target, names := ls[0].Target, []string(nil)
		for len(ls) > 0 && ls[0].Target == target {
			names, ls = append(names, ls[0].Name), ls[1:]
		}
		out += fmt.Sprintf(", %s without (%s)", target, strings.Join(names, ", "))
	}
	return out
}

// endsAnywhere reports whether something of the intent may end at a date. Whatever does has
// the field "until".
func endsAnywhere(s compiler.Source) bool {
	for _, b := range s.Files {
		if bytes.Contains(b, []byte("until")) {
			return true
		}
	}
	return false
}

// verdict is what is remembered of intent in which nothing is wrong.
type verdict struct {
	Told     string    `json:"told"`
	Problems diag.List `json:"problems"` // warnings
}

// verdictKeys name a verdict that holds at every date, and one of this date; "" if it cannot
// be named or there is no cache.
func (c *Compiler) verdictKeys(s compiler.Source, o compiler.Options, user Rego) (always, then string) {
	if c.cache == nil || c.build() == "" {
		return "", ""
	}
	rules, err := user.Digests()
	if err != nil {
		return "", ""
	}
	vendored := map[string]string{}
	for name, b := range s.Vendored {
		vendored[name] = canon.Digest(b)
	}
	key := func(at string) string {
		b, err := canon.JSON([]any{"a verdict", c.build(), s.Digest(), vendored, o.Environment, user.Dir, rules, at})
		if err != nil {
			return ""
		}
		return canon.Digest(b)
	}
	return key(""), key(o.At.UTC().Format(time.RFC3339Nano))
}

// recall is a verdict that is remembered. A file that was damaged holds none.
func (c *Compiler) recall(key string) (Vetted, bool) {
	if key == "" {
		return Vetted{}, false
	}
	b, ok := c.cache.Get(key)
	sum, body, cut := bytes.Cut(b, []byte("\n"))
	if !ok || !cut || string(sum) != canon.Digest(body) {
		return Vetted{}, false
	}
	var v verdict
	if err := json.Unmarshal(body, &v); err != nil || v.Problems.HasErrors() {
		return Vetted{}, false
	}
	return Vetted{Told: v.Told, Problems: v.Problems}, true
}

func (c *Compiler) remember(key string, v Vetted) {
	body, err := canon.JSON(verdict{v.Told, v.Problems})
	if err != nil || key == "" {
		return
	}
	c.cache.Put(key, slices.Concat([]byte(canon.Digest(body)+"\n"), body))
}
