package approval

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/signing"
)

// ProblemError is one diagnostic as an error.
type ProblemError struct{ D diag.Diagnostic }

// Error gives the sentence.
func (p *ProblemError) Error() string { return p.D.Text }

// Diagnostic gives the problem with code and fix.
func (p *ProblemError) Diagnostic() diag.Diagnostic { return p.D }

// Author is who signs a tag and where: the local repository at or above Dir.
type Author struct {
	Dir   string
	Key   signing.Key
	Ident gitrepo.Ident // name, address and date of the tag
}

// signerName finds whose key it is, so that a useless tag is not written.
func (a Author) signerName(t Trust, now time.Time) (string, error) {
	name, k, ok := t.KeyOwner(a.Key.Fingerprint)
	why := "is not in the trust policy"
	if ok {
		why = k.valid(now)
	}
	if why == "" {
		return name, nil
	}
	d := diag.New(diag.CodeKeyNotValid, diag.Pos{}, "key %s %s: its signature would not count", a.Key.Fingerprint, why)
	return "", &ProblemError{d.WithFix("sign with a key of the trust policy, or have the operator add this one")}
}

func (a Author) write(t Trust, name, commit string, message any, replace bool) (gitrepo.Tag, error) {
	raw, err := canon.JSON(message)
	if err != nil {
		return gitrepo.Tag{}, fmt.Errorf("writing tag %q: %w", name, err)
	}
	n := gitrepo.NewTag{Name: name, Commit: commit, Tagger: a.Ident, Message: string(raw), Replace: replace}
	return gitrepo.WriteTag(a.Dir, n, checked{a, t})
}

// checked signs, and checks the signature as a server will: agents and programs have
// settings of their own, such as a weaker hash.
type checked struct {
	a Author
	t Trust
}

// Sign fails if the signature would not count.
func (c checked) Sign(r io.Reader) ([]byte, error) {
	payload, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	sig, err := c.a.Key.Sign(bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	kind := gitrepo.SSHSignature
	if bytes.HasPrefix(sig, []byte("-----BEGIN PGP ")) {
		kind = gitrepo.PGPSignature
	}
	if _, no := c.t.vouch("", gitrepo.Signature{Kind: kind, Armor: string(sig), Payload: payload}, c.a.Ident.When); no != nil {
		d := diag.New(diag.CodeSigningKey, diag.Pos{}, "the signature that key %s made would not count: %v", c.a.Key.Fingerprint, no)
		return nil, &ProblemError{d.WithFix("see which signatures docs/trust-policy.md accepts; a program's own settings, such as gpg's digest-algo, may weaken them")}
	}
	return sig, nil
}

// Approve writes the signed approval tag of a commit and its compiled releases
// (meshc approve). An older approval by the same signer is replaced. Push the
// tag by its Name.
func (a Author) Approve(c Candidate, t Trust) (gitrepo.Tag, error) {
	who, err := a.signerName(t, a.Ident.When)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	m := TagMessage{Repository: t.Repository, Commit: c.Commit, Environment: c.Environment, Compiler: c.Compiler, Releases: releaseSteps(c.Steps)}
	return a.write(t, approvalTags(c.Environment, c.Commit)+who, c.Commit, m, true)
}

// Statement writes the signed release statement (meshc approve --statement) with the
// next free sequence number.
func (a Author) Statement(c Candidate, t Trust) (gitrepo.Tag, error) {
	who, err := a.signerName(t, a.Ident.When)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	if err := mayState(t, c.Environment, who); err != nil {
		return gitrepo.Tag{}, err
	}
	if len(c.Steps) == 0 {
		return gitrepo.Tag{}, errors.New("writing a statement: the candidate has no release")
	}
	seq, err := nextStatement(c, t, a.Ident.When)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	in := c.Steps[0].Release.Inputs()
	m := StatementMessage{Repository: t.Repository, Commit: c.Commit, Environment: c.Environment, Compiler: c.Compiler,
		Schema: in.Schema, Policy: in.Policy, Releases: releaseSteps(c.Steps), Seq: seq}
	return a.write(t, fmt.Sprintf("%s%d", statementTags(c.Environment), m.Seq), c.Commit, m, false)
}

func mayState(t Trust, env, who string) error {
	for _, s := range t.Environments[env].StatementSigners {
		if s == who {
			return nil
		}
	}
	d := diag.New(diag.CodeWrongSigner, diag.Pos{}, "%q may not sign statements for environment %q", who, env)
	return &ProblemError{d.WithFix("have one of statementSigners sign, or add %s there", who)}
}

// RollBack writes the signed record that To is to be served instead of From
// (meshc rollback). Reason is told to everyone and must not be empty.
func (a Author) RollBack(snap *gitrepo.Snapshot, t Trust, m RollbackMessage) (gitrepo.Tag, error) {
	who, err := a.signerName(t, a.Ident.When)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	m.Repository = t.Repository
	problem := ""
	switch {
	case strings.TrimSpace(m.Reason) == "":
		problem = "a rollback needs a reason"
	case m.From == m.To:
		problem = "from and to are the same commit"
	}
	v, err := asStranger(snap, t, m.Environment, a.Ident.When)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	if err := v.ancestor(m); problem == "" && err != nil {
		problem = err.Error()
	}
	if problem != "" {
		d := diag.New(diag.CodeRollback, diag.Pos{}, "%s", problem)
		return gitrepo.Tag{}, &ProblemError{d.WithFix("name an approved commit before the one that is served, and give --reason")}
	}
	if err := v.mayRollBack(m, Vouch{Signer: who, Key: a.Key.Fingerprint}); err != nil {
		d := diag.New(diag.CodeRollback, diag.Pos{}, "the record would not count: %v", err)
		return gitrepo.Tag{}, &ProblemError{d.WithFix("have somebody sign it who may, or add rollbackSigners to the environment in the trust policy")}
	}
	n, err := nextRollback(v)
	if err != nil {
		return gitrepo.Tag{}, err
	}
	return a.write(t, fmt.Sprintf("%s%d", rollbackTags(m.Environment), n), m.To, m, false)
}

// asStranger sees a repository as a server without state does.
func asStranger(snap *gitrepo.Snapshot, t Trust, env string, now time.Time) (*verifier, error) {
	v := &verifier{c: Candidate{Snapshot: snap, Environment: env, Commit: t.RootCommit}, t: t, now: now}
	return v, v.repository()
}

// nextStatement is one more than the highest number of a statement that counts. A
// number that any other tag has is passed over.
func nextStatement(c Candidate, t Trust, now time.Time) (int64, error) {
	top := int64(0)
	for st, err := range statements(c.Snapshot, c.Environment, "", t, now) {
		if err == nil {
			top = st.seq
			break
		}
	}
	return freeNumber(c.Snapshot, statementTags(c.Environment), top, maxSeq)
}

// nextRollback is one more than the highest number of a record that a server may
// have taken. Numbers of rollbacks are never forgotten, so that records by a key
// that counts no more do here; what is too far ahead for any server does not.
func nextRollback(v *verifier) (int64, error) {
	prefix := rollbackTags(v.c.Environment)
	var past []int64
	for _, name := range v.c.Snapshot.TagNames(prefix) {
		n, ok := number(strings.TrimPrefix(name, prefix))
		if !ok {
			continue
		}
		tag, err := v.c.Snapshot.Tag(name)
		if err != nil {
			continue
		}
		w, no := v.t.vouch(tag.Hash, tag.Signature, v.now)
		if no != nil && no.code == diag.CodeKeyNotValid {
			p := v.t.proof(tag.Hash, tag.Signature)
			w, no = Vouch{Signer: p.signer, Key: p.key.Fingerprint}, nil
		}
		if no != nil {
			continue
		}
		if _, err := v.rollbackBy(w, n, tag); err == nil {
			past = append(past, n)
		}
	}
	slices.Sort(past)
	top := int64(0)
	for _, n := range past {
		if n <= top+maxSkip {
			top = max(top, n)
		}
	}
	return freeNumber(v.c.Snapshot, prefix, top, top+maxSkip)
}

// freeNumber is the first number after top that no tag has. Servers do not look
// beyond last.
func freeNumber(snap *gitrepo.Snapshot, prefix string, top, last int64) (int64, error) {
	taken := map[string]bool{}
	for _, name := range snap.TagNames(prefix) {
		taken[name] = true
	}
	for n := top + 1; n <= last; n++ {
		if !taken[fmt.Sprintf("%s%d", prefix, n)] {
			return n, nil
		}
	}
	d := diag.New(diag.CodeNoNumber, diag.Pos{}, "no number is free for another tag %s<n>: the last that counts is %d, servers look up to %d, and every one between has a tag", prefix, top, last)
	in := fmt.Sprintf("%s%d", prefix, min(top+1, last))
	return 0, &ProblemError{d.WithFix("delete what does not belong there and try again: git push origin :refs/tags/%s && git tag -d %[1]s; protect refs/tags/meshc/ from others", in)}
}
