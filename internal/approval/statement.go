package approval

import (
	"cmp"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// maxSeq is the largest sequence number: JSON readers keep it exact.
const maxSeq = 1 << 53

// number reads the canonical decimal form of 1…maxSeq.
func number(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && n >= 1 && n <= maxSeq && strconv.FormatInt(n, 10) == s
}

// statement is a tag in the place of a statement: its name and number are the ref's.
// The rest is there if it counts.
type statement struct {
	name  string
	seq   int64
	tag   gitrepo.Tag
	wrong error // why it does not count
	msg   StatementMessage
	who   Vouch
}

// maxAhead is how many tags are read and their signatures checked before the first of
// them is looked at.
const maxAhead = 256

// statements goes through what stands in the place of statements of the environment,
// the newest first; of one commit only, if one is named. With each comes why it does
// not count. What nobody asks for is hardly read: mostly the first one decides.
func statements(snap *gitrepo.Snapshot, env, commit string, t Trust, now time.Time) iter.Seq2[statement, error] {
	return func(yield func(statement, error) bool) {
		rest := numbered(snap, env)
		for ahead := 1; len(rest) > 0; ahead = min(2*ahead, maxAhead) {
			n := min(ahead, len(rest))
			batch := tagged(snap, rest[:n], commit)
			rest = rest[n:]
			t.proveAll(batch)
			for _, s := range batch {
				if s.wrong == nil {
					s.wrong = s.read(env, t, now)
				}
				if !yield(s, s.wrong) {
					return
				}
			}
		}
	}
}

// tagged reads tags, and leaves out those of other commits than the named one.
func tagged(snap *gitrepo.Snapshot, batch []statement, commit string) []statement {
	out := batch[:0]
	for _, s := range batch {
		s.tag, s.wrong = snap.Tag(s.name)
		if s.wrong != nil || commit == "" || s.tag.Commit == commit {
			out = append(out, s)
		}
	}
	return out
}

// proveAll checks the signatures of many tags at once, on every core: each tag that
// somebody pushes with a known key's signature costs a check of it, and a look should
// not take as long as all of them one after another.
func (t Trust) proveAll(batch []statement) {
	var next atomic.Int64
	var cores sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(batch)) {
		cores.Go(func() {
			for i := next.Add(1); i <= int64(len(batch)); i = next.Add(1) {
				if s := &batch[i-1]; s.wrong == nil {
					t.proof(s.tag.Hash, s.tag.Signature)
				}
			}
		})
	}
	cores.Wait()
}

// numbered are the names of an environment's statement tags, the highest number first.
func numbered(snap *gitrepo.Snapshot, env string) []statement {
	var out []statement
	for _, name := range snap.TagNames(statementTags(env)) {
		if seq, ok := number(strings.TrimPrefix(name, statementTags(env))); ok { // else a rollback tag, or somebody else's
			out = append(out, statement{name: name, seq: seq})
		}
	}
	slices.SortFunc(out, func(a, b statement) int { return cmp.Compare(b.seq, a.seq) })
	return out
}

// read takes what the tag says, if somebody signed it who may.
func (s *statement) read(env string, t Trust, now time.Time) error {
	w, no := t.vouch(s.tag.Hash, s.tag.Signature, now)
	if no != nil {
		return no
	}
	s.who = w
	if !slices.Contains(t.Environments[env].StatementSigners, w.Signer) {
		return fmt.Errorf("%q (%s) may not sign statements", w.Signer, w.Key)
	}
	if err := decode(s.tag.Message, &s.msg); err != nil {
		return err
	}
	switch m := s.msg; {
	case m.Repository != t.Repository:
		return fmt.Errorf("it is about repository %q, this is %q", m.Repository, t.Repository)
	case m.Environment != env:
		return fmt.Errorf("it is about environment %q", m.Environment)
	case m.Commit != s.tag.Commit:
		return fmt.Errorf("the tag and its message name different commits")
	case m.Seq != s.seq:
		return fmt.Errorf("its message says sequence %d", m.Seq)
	}
	return nil
}

// statement finds the statement about the candidate, if there must or may be one,
// and the candidate's place.
func (v *verifier) statement() error {
	var why []string
	var found *statement
	for s, err := range statements(v.c.Snapshot, v.c.Environment, v.c.Commit, v.t, v.now) {
		if err != nil {
			why = append(why, ofTag(s.name, err))
			v.ignore(s.name, err)
		} else if found == nil {
			found = &s
		}
	}
	if s := found; s != nil {
		v.stmt = &s.msg
		v.keys = append(v.keys, s.who.Key)
		v.record.Statement = &TagEvidence{Tag: s.tag.Name, Signer: s.who.Signer, Key: s.who.Key}
		if at := v.claimed(s.tag.Tagger.When); at.After(v.record.EvidenceAt) {
			v.record.EvidenceAt = at
		}
	} else if v.env.NeedStatement {
		r := refuse(LinkStatement, diag.CodeStatement, v.c.Commit, "no statement about it counts")
		if len(why) > 0 {
			r.Reason += ": " + some(why)
		}
		return r.fix("one of %s: meshc approve --statement %s --env %s, then push the tag",
			strings.Join(v.env.StatementSigners, ", "), short(v.c.Commit), v.c.Environment)
	}
	v.record.Place = Place{Rollbacks: v.s.Place.Rollbacks, Position: int64(v.at) + 1}
	if v.env.Position == ByTag {
		v.record.Place.Position = v.stmt.Seq
	}
	if v.rollback != nil {
		v.record.Place.Rollbacks = max(v.record.Place.Rollbacks, v.rollback.n)
	}
	return nil
}

// reproduced compares the statement with what compiling gave here.
func (v *verifier) reproduced() error {
	if v.stmt == nil {
		return nil // the server compiled it: its own release counts
	}
	in := v.c.Steps[0].Release.Inputs()
	if m := v.stmt; m.Compiler != v.c.Compiler && v.env.OtherCompiler == RefuseOther {
		return refuse(LinkReproduce, diag.CodeOtherCompiler, v.c.Commit, "the statement is by compiler %q, this is %q", m.Compiler, v.c.Compiler).
			fix("sign a statement with this version, serve with that one, or set otherCompiler: trustStatement")
	}
	d := differ(v.stmt.Releases, releaseSteps(v.c.Steps))
	for _, p := range []struct{ name, signed, here string }{
		{"compiler", v.stmt.Compiler, in.Compiler}, {"schema", v.stmt.Schema, in.Schema}, {"policy", v.stmt.Policy, in.Policy},
	} {
		if d == "" && p.signed != p.here && v.stmt.Compiler == v.c.Compiler {
			d = fmt.Sprintf("its %s is %q, here it is %q", p.name, p.signed, p.here)
		}
	}
	if d != "" {
		return refuse(LinkReproduce, diag.CodeNotReproduced, v.c.Commit, "compiling does not give what statement %s says: %s", v.record.Statement.Tag, d).
			fix("compile the commit from a clean checkout (meshc compile --rev %s --env %s) and compare; then sign a new statement", short(v.c.Commit), v.c.Environment)
	}
	return nil
}

// checkSteps checks that the releases belong to the commit and the environment.
func (v *verifier) checkSteps() error {
	no := func(format string, args ...any) error {
		return refuse(LinkSteps, diag.CodeSteps, v.c.Commit, format, args...).fix("compile the commit again")
	}
	if len(v.c.Steps) == 0 {
		return no("there is no release")
	}
	first := v.c.Steps[0].Release.Inputs()
	last := v.commit.Committer.When
	for i, s := range v.c.Steps {
		in := s.Release.Inputs()
		at, err := time.Parse(time.RFC3339, in.At)
		switch {
		case s.Release.Digest() == "" || err != nil:
			return no("step %d holds no release with a compile date", i)
		case in.Environment != v.c.Environment:
			return no("step %d was compiled for environment %q", i, in.Environment)
		case i == 0 && !s.From.IsZero():
			return no("the first step begins at %s instead of at once", s.From.Format(time.RFC3339))
		case i == 0 && !at.Equal(last):
			return no("it was compiled for %s, the commit's date is %s", in.At, last.Format(time.RFC3339))
		case i > 0 && (!s.From.After(last) || !at.Equal(s.From)):
			return no("step %d begins at %s and was compiled for %s; each follows the one before", i, s.From.Format(time.RFC3339), in.At)
		case in.Tree != first.Tree || in.Compiler != first.Compiler || in.Schema != first.Schema || in.Policy != first.Policy:
			return no("step %d was made from other input or by another compiler than the first", i)
		}
		last = at
	}
	return nil
}

// laterThanSeen is the last link.
func (v *verifier) laterThanSeen() error {
	p := v.record.Place
	if top, ok := v.s.floor(v.t); ok && p.Compare(top.Place) <= 0 {
		r := refuse(LinkPlace, diag.CodeNotLater, v.c.Commit, "its place (rollbacks %d, position %d) is not later than (%d, %d), which was served",
			p.Rollbacks, p.Position, top.Place.Rollbacks, top.Place.Position)
		if len(top.Keys) > 0 {
			return r.fix("sign a statement with a higher sequence number; if key %s was stolen, mark it revoked in the trust policy", strings.Join(top.Keys, ", "))
		}
		return r.fix("only later commits are served; to go back, sign a rollback record: meshc rollback")
	}
	v.record.Seen = v.s.remember(v.keys, p)
	return nil
}
