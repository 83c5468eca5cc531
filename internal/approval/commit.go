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
// has signed it, or an approval tag on it. Tags of commits before the candidate are
// looked at only where the commit's own signature does not do: what they say of
// releases is compared, and that takes compiling.
func (v *verifier) vouched(c gitrepo.Commit) (Evidence, error) {
	paths, err := v.c.Snapshot.Changed(c)
	if err != nil {
		return Evidence{}, err
	}
	tm := v.own(c)
	missing := v.missing(c, paths, tm)
	if c.Hash == v.c.Commit || missing != nil {
		v.tags(c, &tm)
		if missing != nil && c.Hash != v.c.Commit {
			v.earlier = append(v.earlier, c.Hash)
		}
		missing = v.missing(c, paths, tm)
	}
	e := Evidence{Commit: c.Hash, Vouches: tm.vouches, Paths: len(paths)}
	if tm.own != nil {
		e.Note = tm.own.reason
	}
	if missing != nil {
		return e, missing
	}
	return e, nil
}

// missing is the first rule that is not satisfied, as a refusal, or nil.
func (v *verifier) missing(c gitrepo.Commit, paths []string, tm testimony) *Refusal {
	if len(paths) == 0 {
		if all := (Rule{Threshold: 1, Signers: v.t.ruleSigners()}); len(tm.count(all)) == 0 {
			return v.unvouched(c, "", all, tm)
		}
		return nil
	}
	for _, p := range paths {
		rule, ok := v.t.RuleFor(p)
		if !ok {
			return refuse(LinkSigner, diag.CodeNoRule, c.Hash, "no rule of the trust policy covers path %q", p).
				fix("add a rule for it to the trust policy, or remove the commit from the ref")
		}
		if len(tm.count(rule)) < rule.Threshold {
			return v.unvouched(c, p, rule, tm)
		}
	}
	return nil
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

// own is the testimony of the commit's own signature.
func (v *verifier) own(c gitrepo.Commit) testimony {
	w, no := v.t.vouch(c.Hash, c.Signature, v.now)
	if no != nil {
		return testimony{vouches: []Vouch{}, own: no}
	}
	return testimony{vouches: []Vouch{w}}
}

// tags adds what approval tags say. Only those are read that are named for a signer
// of the policy: whatever else is pushed under the commit costs nothing.
func (v *verifier) tags(c gitrepo.Commit, tm *testimony) {
	prefix := approvalTags(v.c.Environment, c.Hash)
	for _, name := range v.c.Snapshot.TagNames(prefix) {
		w, err := v.approvalTag(c, name, strings.TrimPrefix(name, prefix))
		if err != nil {
			tm.notes = append(tm.notes, ofTag(name, err))
			v.ignore(name, err)
			continue
		}
		tm.vouches = append(tm.vouches, w)
	}
}

// approvalTag checks one approval tag of a commit.
func (v *verifier) approvalTag(c gitrepo.Commit, name, signer string) (Vouch, error) {
	if _, ok := v.t.Signers[signer]; !ok {
		return Vouch{}, fmt.Errorf("the trust policy has no signer %q", signer)
	}
	tag, err := v.c.Snapshot.Tag(name)
	if err != nil {
		return Vouch{}, err
	}
	w, no := v.t.vouch(tag.Hash, tag.Signature, v.now)
	if no != nil {
		return Vouch{}, no
	}
	if w.Signer != signer {
		return Vouch{}, fmt.Errorf("it is signed by %q", w.Signer)
	}
	var m TagMessage
	if err := decode(tag.Message, &m); err != nil {
		return Vouch{}, err
	}
	switch {
	case m.Repository != v.t.Repository:
		return Vouch{}, fmt.Errorf("it approves a commit of repository %q, this is %q", m.Repository, v.t.Repository)
	case m.Commit != c.Hash || tag.Commit != c.Hash:
		return Vouch{}, fmt.Errorf("it approves another commit")
	case m.Environment != v.c.Environment:
		return Vouch{}, fmt.Errorf("it approves for environment %q", m.Environment)
	case len(m.Releases) == 0:
		return Vouch{}, fmt.Errorf("it names no release")
	}
	if err := v.sameReleases(c.Hash, m); err != nil {
		return Vouch{}, err
	}
	w.Tag = name
	if at := v.claimed(tag.Tagger.When); at.After(v.record.EvidenceAt) {
		v.record.EvidenceAt = at
	}
	return w, nil
}

// sameReleases compares what an approval says of releases with what compiling its
// commit gives. While only the history is checked, nothing is compiled yet.
func (v *verifier) sameReleases(commit string, m TagMessage) error {
	if v.c.Steps == nil {
		return nil
	}
	compiled, ok := v.c.Earlier[commit]
	if commit == v.c.Commit {
		compiled, ok = releaseSteps(v.c.Steps), true
	}
	if !ok {
		return fmt.Errorf("its commit was not compiled here")
	}
	if m.Compiler != v.c.Compiler && v.env.OtherCompiler == RefuseOther {
		return fmt.Errorf("it was made with compiler %q, this is %q (otherCompiler: refuse)", m.Compiler, v.c.Compiler)
	}
	if d := differ(m.Releases, compiled); d != "" {
		return fmt.Errorf("compiling does not give what it approves: %s", d)
	}
	return nil
}

// unvouched finds the most telling reason why a rule is not satisfied.
func (v *verifier) unvouched(c gitrepo.Commit, path string, r Rule, tm testimony) *Refusal {
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
	left := slices.DeleteFunc(slices.Clone(r.Signers), func(s string) bool { return slices.Contains(have, s) })
	if len(left) > 0 {
		who = strings.Join(left, ", ")
	}
	if missing := r.Threshold - len(have); missing < len(left) {
		who = fmt.Sprintf("%d of %s", missing, who)
	}
	return out.fix("have it signed by %s: meshc approve %s --env %s, then push the tag; or remove the commit from %s (it was never served)",
		who, short(c.Hash), v.c.Environment, v.t.Ref)
}
