package approval

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// signedStatement is a statement tag whose signature counts.
type signedStatement struct {
	tag gitrepo.Tag
	msg StatementMessage
	who Vouch
}

// statements returns the valid statements of the environment, newest first; of
// one commit only, if one is named. Others are told to skipped.
func statements(snap *gitrepo.Snapshot, env, commit string, t Trust, now time.Time, skipped func(tag string, err error)) []signedStatement {
	var out []signedStatement
	for _, name := range snap.TagNames(statementTags(env)) {
		seq, ok := number(strings.TrimPrefix(name, statementTags(env)))
		if !ok {
			continue // an environment's rollback tags, or somebody else's
		}
		tag, err := snap.Tag(name)
		if err != nil {
			skipped(name, err)
			continue
		}
		if commit != "" && tag.Commit != commit {
			continue
		}
		s, err := readStatement(tag, env, seq, t, now)
		if err != nil {
			skipped(name, err)
			continue
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b signedStatement) int { return int(max(-1, min(1, b.msg.Seq-a.msg.Seq))) })
	return out
}

func readStatement(tag gitrepo.Tag, env string, seq int64, t Trust, now time.Time) (s signedStatement, err error) {
	w, no := t.vouch(tag.Hash, tag.Signature, now)
	if no != nil {
		return s, no
	}
	s = signedStatement{tag: tag, who: w}
	if !slices.Contains(t.Environments[env].StatementSigners, w.Signer) {
		return s, fmt.Errorf("%q (%s) may not sign statements", w.Signer, w.Key)
	}
	if err := decode(tag.Message, &s.msg); err != nil {
		return s, err
	}
	switch m := s.msg; {
	case m.Repository != t.Repository:
		return s, fmt.Errorf("it is about repository %q, this is %q", m.Repository, t.Repository)
	case m.Environment != env:
		return s, fmt.Errorf("it is about environment %q", m.Environment)
	case m.Commit != tag.Commit:
		return s, fmt.Errorf("the tag and its message name different commits")
	case m.Seq != seq:
		return s, fmt.Errorf("its message says sequence %d", m.Seq)
	}
	return s, nil
}

// statement finds the statement about the candidate, if there must or may be one,
// and the candidate's place.
func (v *verifier) statement() error {
	var why []string
	found := statements(v.c.Snapshot, v.c.Environment, v.c.Commit, v.t, v.now, func(tag string, err error) {
		why = append(why, ofTag(tag, err))
		v.ignore(tag, err)
	})
	if len(found) > 0 {
		s := found[0]
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
