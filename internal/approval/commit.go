package approval

import (
	"fmt"
	"slices"
	"strings"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// testimony is who vouches for a commit, and why others did not count.
type testimony struct {
	vouches []Vouch
	own     *notVouched // why the commit's own signature does not count
	notes   []string    // why approval tags did not
}

// vouched checks one commit: everyone whom the rules of the changed paths ask for
// has signed it, or an approval tag on it.
func (v *verifier) vouched(c gitrepo.Commit) (Evidence, error) {
	paths, err := v.c.Snapshot.Changed(c)
	if err != nil {
		return Evidence{}, err
	}
	tm := v.testimony(c)
	e := Evidence{Commit: c.Hash, Vouches: tm.vouches, Paths: len(paths)}
	if tm.own != nil {
		e.Note = tm.own.reason
	}
	if len(paths) == 0 {
		if all := (Rule{Threshold: 1, Signers: v.t.ruleSigners()}); len(tm.count(all)) == 0 {
			return e, v.unvouched(c, "", all, tm)
		}
		return e, nil
	}
	for _, p := range paths {
		rule, ok := v.t.RuleFor(p)
		if !ok {
			return e, refuse(LinkSigner, diag.CodeNoRule, c.Hash, "no rule of the trust policy covers path %q", p).
				fix("add a rule for it to the trust policy, or remove the commit from the ref")
		}
		if len(tm.count(rule)) < rule.Threshold {
			return e, v.unvouched(c, p, rule, tm)
		}
	}
	return e, nil
}

// count gives the different signers of a rule that vouch.
func (tm testimony) count(r Rule) []string {
	var out []string
	for _, w := range tm.vouches {
		if slices.Contains(r.Signers, w.Signer) && !slices.Contains(out, w.Signer) && (w.Tag != "" || !r.RequireTags) {
			out = append(out, w.Signer)
		}
	}
	return out
}

func (v *verifier) testimony(c gitrepo.Commit) testimony {
	tm := testimony{vouches: []Vouch{}}
	if w, no := v.t.vouch(c.Hash, c.Signature, v.now); no != nil {
		tm.own = no
	} else {
		tm.vouches = append(tm.vouches, w)
	}
	prefix := approvalTags(v.c.Environment, c.Hash)
	for _, name := range v.c.Snapshot.TagNames(prefix) {
		w, err := v.approvalTag(c, name, strings.TrimPrefix(name, prefix))
		if err != nil {
			tm.notes = append(tm.notes, fmt.Sprintf("tag %q: %v", name, err))
			v.ignore(name, err)
			continue
		}
		tm.vouches = append(tm.vouches, w)
	}
	return tm
}

// approvalTag checks one approval tag of a commit. What it says about releases is
// compared where they are known: for the candidate.
func (v *verifier) approvalTag(c gitrepo.Commit, name, signer string) (Vouch, error) {
	tag, err := v.c.Snapshot.Tag(name)
	if err != nil {
		return Vouch{}, err
	}
	w, no := v.t.vouch(tag.Hash, tag.Signature, v.now)
	if no != nil {
		return Vouch{}, no
	}
	var m TagMessage
	if err := decode(tag.Message, &m); err != nil {
		return Vouch{}, err
	}
	switch {
	case w.Signer != signer:
		return Vouch{}, fmt.Errorf("it is signed by %q", w.Signer)
	case m.Repository != v.t.Repository:
		return Vouch{}, fmt.Errorf("it approves a commit of repository %q, this is %q", m.Repository, v.t.Repository)
	case m.Commit != c.Hash || tag.Commit != c.Hash:
		return Vouch{}, fmt.Errorf("it approves another commit")
	case m.Environment != v.c.Environment:
		return Vouch{}, fmt.Errorf("it approves for environment %q", m.Environment)
	case len(m.Releases) == 0:
		return Vouch{}, fmt.Errorf("it names no release")
	}
	if c.Hash == v.c.Commit && v.c.Steps != nil {
		if m.Compiler != v.c.Compiler && v.env.OtherCompiler == RefuseOther {
			return Vouch{}, fmt.Errorf("it was made with compiler %q, this is %q (otherCompiler: refuse)", m.Compiler, v.c.Compiler)
		}
		if d := differ(m.Releases, releaseSteps(v.c.Steps)); d != "" {
			return Vouch{}, fmt.Errorf("compiling does not give what it approves: %s", d)
		}
	}
	w.Tag = name
	if at := v.claimed(tag.Tagger.When); at.After(v.record.EvidenceAt) {
		v.record.EvidenceAt = at
	}
	return w, nil
}

// unvouched finds the most telling reason why a rule is not satisfied.
func (v *verifier) unvouched(c gitrepo.Commit, path string, r Rule, tm testimony) error {
	have := tm.count(r)
	who := strings.Join(r.Signers, ", ")
	out := &Refusal{Commit: c.Hash}
	where := ""
	if path != "" {
		where = fmt.Sprintf(" path %q", path)
	}
	var strangers []string
	for _, w := range tm.vouches {
		if !slices.Contains(r.Signers, w.Signer) {
			strangers = append(strangers, fmt.Sprintf("%s (%s)", w.Signer, w.Key))
		}
	}
	switch {
	case len(have) > 0 || (len(strangers) == 0 && tm.own == nil):
		out.Link, out.Code = LinkThreshold, diag.CodeThreshold
		kind := "signatures"
		if r.RequireTags {
			kind = "approval tags"
		}
		out.Reason = fmt.Sprintf("%s needs %d %s of %s and has %d", strings.TrimSpace("changing"+where), r.Threshold, kind, who, len(have))
		if len(have) > 0 {
			out.Reason += " (" + strings.Join(have, ", ") + ")"
		}
	case len(strangers) > 0:
		out.Link, out.Code = LinkSigner, diag.CodeWrongSigner
		out.Reason = fmt.Sprintf("%s may not approve%s; that takes %s", strings.Join(strangers, ", "), where, who)
	default:
		out.Link, out.Code = LinkSignature, tm.own.code
		if tm.own.code == diag.CodeWrongSigner {
			out.Link = LinkSigner
		}
		out.Reason = tm.own.reason
		if path != "" {
			out.Reason += "; changing" + where + " takes " + who
		}
	}
	if len(tm.notes) > 0 {
		out.Reason += "; not counted: " + some(tm.notes)
	}
	missing := r.Threshold - len(have)
	if left := slices.DeleteFunc(slices.Clone(r.Signers), func(s string) bool { return slices.Contains(have, s) }); len(left) > 0 {
		who = strings.Join(left, ", ")
	}
	return out.fix("either %d of %s: meshc approve %s --env %s, then push the tag; or remove the commit from %s (it was never served)",
		missing, who, short(c.Hash), v.c.Environment, v.t.Ref)
}
