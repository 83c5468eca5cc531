package approval

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// The attacks on approval itself. Attacks 1, 5 and 21 are in package feed; 9 and
// 13 to 20 in package gitrepo.

// Attack 2: signed, by somebody who may not, for that path.
func TestAttack02SignerOfAnotherTeam(t *testing.T) {
	w := newWorld(t)
	c := w.commit(&w.bob, "bookinfo/a.cue", "1", "shop/a.cue", "1") // half of it is his own
	_, err := w.verify(c, State{})
	w.refused(err, LinkSigner, diag.CodeWrongSigner, `path "bookinfo/a.cue"`, w.bob.Fingerprint)
}

// Attack 3: evidence of another repository, by the same keys.
func TestAttack03ReplayAcrossRepositories(t *testing.T) {
	w, other := newWorld(t), newWorld(t)
	w.environment(", statement: required, statementSigners: [ops]")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	m := w.statementFor(c, 1)
	m.Repository = "https://git.example.test/other.git"
	w.tag(w.ops, statementName(1), c, m)
	_, err := w.verify(c, State{})
	w.refused(err, LinkStatement, diag.CodeStatement, "other.git")
	// The whole other repository offered in place of ours: its history begins elsewhere.
	foreign := other.commit(&other.alice, "bookinfo/a.cue", "1")
	_, err = Verify(other.candidate(foreign), State{}, w.trust(), w.now)
	w.refused(err, LinkRepository, diag.CodeOtherRepository, "root commit")
}

// Attack 4: the ref rewritten to an older commit; only a signed record goes back.
func TestAttack04Rewind(t *testing.T) {
	w := newWorld(t)
	var commits []string
	for _, v := range []string{"1", "2", "3", "4"} {
		commits = append(commits, w.commit(&w.alice, "bookinfo/a.cue", v))
	}
	s := w.approved(commits[3], State{}).State()
	w.repo.Git("update-ref", "refs/heads/main", commits[0])
	_, err := w.verify(commits[0], s)
	w.refused(err, LinkDescent, diag.CodeNotDescended, "rewritten")
	if r := (*Refusal)(nil); errors.As(err, &r) && !strings.Contains(r.Fix, "meshc rollback COMMIT --env prod --reason TEXT --key FILE") {
		t.Errorf("way out: %s", r.Fix)
	}
	// A new commit on the old one is refused as well.
	w.repo.Git("reset", "-q", "--hard", commits[0])
	side := w.commit(&w.alice, "bookinfo/a.cue", "side")
	_, err = w.verify(side, s)
	w.refused(err, LinkDescent, diag.CodeNotDescended, "rewritten")
	w.repo.Git("update-ref", "refs/heads/main", commits[0])
	w.rollBack(w.ops, commits[3], commits[0])
	if r := w.approved(commits[0], s).Record(); r.Place.Rollbacks != 1 || r.Tip != commits[3] {
		t.Errorf("record %+v", r)
	}
}

// Attack 6: a stolen key signs a huge sequence number; after it is revoked, the
// new key's next small number counts again.
func TestAttack06FastForwardWithAStolenKey(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [ops, robot]")
	w.replace("rules:", `  robot: {keys: [{ssh: "EVE"}]}`+"\nrules:")
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	w.tag(w.ops, statementName(4), c, w.statementFor(c, 4))
	s := w.approved(c, State{}).State()
	c2 := w.commit(&w.alice, "bookinfo/a.cue", "2")
	w.tag(w.eve, statementName(maxSeq), c2, w.statementFor(c2, maxSeq))
	s = w.approved(c2, s).State()
	c3 := w.commit(&w.alice, "bookinfo/a.cue", "3")
	w.tag(w.ops, statementName(5), c3, w.statementFor(c3, 5))
	_, err := w.verify(c3, s)
	w.refused(err, LinkPlace, diag.CodeNotLater, "position 5")
	w.replace("robot: {keys", "robot: {revoked: true, keys")
	if next, err := Next(w.candidate(w.root), s, w.trust(), w.now); err != nil || next != c3 {
		t.Errorf("next %s, %v; want %s", next, err, c3)
	}
	s = w.approved(c3, s).State()
	// The honest key's own past still counts.
	c4 := w.commit(&w.alice, "bookinfo/a.cue", "4")
	w.tag(w.ops, statementName(3), c4, w.statementFor(c4, 3))
	_, err = w.verify(c4, s)
	w.refused(err, LinkPlace, diag.CodeNotLater, "(0, 5)")
	// Sequence numbers are not exhausted by somebody's unsigned tag either.
	w.repo.Git("tag", "-a", "-m", "{}", statementName(maxSeq-1))
	w.state(w.ops, c4)
	if r := w.approved(c4, s).Record(); r.Place.Position != 6 {
		t.Errorf("place %+v", r.Place)
	}
}

// Attack 7: the key expires or is revoked after approval; a restart still serves,
// new commits by it are refused.
func TestAttack07KeyExpiresAfterApproval(t *testing.T) {
	for _, how := range []string{"notAfter: 2026-01-02T13:30:00Z", "revoked: true"} {
		w := newWorld(t)
		a := w.approved(w.commit(&w.alice, "bookinfo/a.cue", "1"), State{})
		dir := t.TempDir()
		if err := NewStore(dir).Save(a); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(2 * time.Hour)
		w.replace(`{ssh: "ALICE"}`, `{ssh: "ALICE", `+how+`}`)
		back, err := NewStore(dir).Restore()
		if err != nil || back.Commit() != a.Commit() || back.At(w.now).Digest() != a.At(w.now).Digest() {
			t.Fatalf("%s: restored %q, %v", how, back.Commit(), err)
		}
		_, err = w.verify(w.commit(&w.alice, "bookinfo/a.cue", "2"), back.State())
		w.refused(err, LinkSignature, diag.CodeKeyNotValid)
		w.repo.Git("reset", "-q", "--hard", a.Commit())
		w.approved(w.commit(&w.ops, "bookinfo/a.cue", "3"), back.State())
	}
}

// Attack 8: options that OpenSSH gives a meaning are refused at load, not ignored.
func TestAttack08AuthorizedKeysOptions(t *testing.T) {
	k := gittest.NewKey(t).Public
	for _, o := range []string{"cert-authority", `cert-authority,principals=\"x\"`, `valid-before=\"20300101\"`, `principals=\"x\"`, "no-pty", `command=\"id\"`, "restrict"} {
		_, l := load(t, strings.Replace(minimal, "KEY", o+" "+k, 1))
		if !l.HasErrors() || l[0].Code != diag.CodeTrustKey || l[0].Pos.Line != 7 || !strings.Contains(l[0].Text, "not honoured") {
			t.Errorf("%s: %v", o, l)
		}
	}
}

// Attack 10: what a merge brings from its second parent. The merge answers for
// all of it by its own signature.
func TestAttack10Merge(t *testing.T) {
	for name, c := range map[string]struct {
		side, merge func(w *world) *gittest.Key
		path        string
		ok          bool
	}{
		"unsigned side, merge by the path's signer": {nobody, alice, "bookinfo/a.cue", true},
		"unsigned side, merge by another":           {nobody, bob, "bookinfo/a.cue", false},
		"unsigned side, unsigned merge":             {nobody, nobody, "bookinfo/a.cue", false},
		"signed side, unsigned merge":               {alice, nobody, "bookinfo/a.cue", false},
		"signed side, merge by another":             {alice, bob, "bookinfo/a.cue", false},
		"stranger's side, merge by who may":         {eve, alice, "bookinfo/a.cue", true},
		"stranger's side, path of nobody's":         {eve, alice, "nowhere/a.cue", false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			side := w.repo.Commit(gittest.Commit{Key: c.side(w), Files: map[string]string{c.path: "evil"}, Ref: "refs/heads/side"})
			merge := w.repo.Commit(gittest.Commit{Key: c.merge(w), Parents: []string{w.root, side}})
			if _, err := w.verify(merge, State{}); (err == nil) != c.ok {
				t.Errorf("approved %v: %v", err == nil, err)
			}
		})
	}
	// Parents swapped: our history becomes the second parent and is no longer the line.
	w := newWorld(t)
	s := w.approved(w.commit(&w.alice, "bookinfo/a.cue", "1"), State{}).State()
	side := w.repo.Commit(gittest.Commit{Key: &w.ops, Parents: []string{w.root}, Files: map[string]string{"mesh.cue": "x"}, Ref: "refs/heads/side"})
	swapped := w.repo.Commit(gittest.Commit{Key: &w.ops, Parents: []string{side, s.Commit}})
	_, err := w.verify(swapped, s)
	w.refused(err, LinkDescent, diag.CodeNotDescended)
}

func nobody(*world) *gittest.Key  { return nil }
func alice(w *world) *gittest.Key { return &w.alice }
func bob(w *world) *gittest.Key   { return &w.bob }
func eve(w *world) *gittest.Key   { return &w.eve }

// Attack 11: a merge made in a web page carries the host's signature. The host is
// no approver; an approval tag is the way that is documented.
func TestAttack11WebMergeSignedByTheHost(t *testing.T) {
	w := newWorld(t)
	host := gittest.NewKey(t)
	side := w.repo.Commit(gittest.Commit{Key: &w.alice, Files: map[string]string{"bookinfo/a.cue": "1"}, Ref: "refs/heads/side"})
	merge := w.repo.Commit(gittest.Commit{Key: &host, Parents: []string{w.root, side}})
	_, err := w.verify(merge, State{})
	w.refused(err, LinkSigner, diag.CodeWrongSigner, host.Fingerprint)
	var r *Refusal
	if errors.As(err, &r) && !strings.Contains(r.Fix, "meshc approve "+short(merge)) {
		t.Errorf("way out: %s", r.Fix)
	}
	w.approve(w.alice, merge)
	w.approved(merge, State{})
}

// Attack 12: a well-signed commit that is in the object store, or on a pull
// request's ref, but not on the branch.
func TestAttack12Impostor(t *testing.T) {
	w := newWorld(t)
	w.commit(&w.alice, "bookinfo/a.cue", "1")
	for _, ref := range []string{"refs/heads/fork", "refs/pull/1/head", "refs/tags/meshc/prod/999"} {
		c := w.repo.Commit(gittest.Commit{Key: &w.alice, Files: map[string]string{"bookinfo/a.cue": ref}, Ref: ref})
		_, err := w.verify(c, State{})
		w.refused(err, LinkDescent, diag.CodeNotDescended)
	}
	second := w.repo.Commit(gittest.Commit{Key: &w.alice, Parents: []string{w.root}, Files: map[string]string{"bookinfo/a.cue": "2"}, Ref: "refs/heads/side"})
	w.commitMerge(second)
	_, err := w.verify(second, State{}) // merged, yet not on the first-parent line
	w.refused(err, LinkDescent, diag.CodeNotDescended)
}

func (w *world) commitMerge(side string) {
	w.t.Helper()
	w.repo.Commit(gittest.Commit{Key: &w.ops, Parents: []string{w.repo.Git("rev-parse", "main"), side}})
}

// Attack 26, for Git: a signature over other content, in another namespace, of
// another kind.
func TestSignatureTricks(t *testing.T) {
	w := newWorld(t)
	c := w.commit(&w.alice, "bookinfo/a.cue", "1")
	raw := string(w.repo.Raw("commit", c))
	for name, bad := range map[string]string{
		"other message":   strings.Replace(raw, "change 1", "change 2", 1),
		"other committer": strings.Replace(raw, "committer A", "committer B", 1),
		"header added":    strings.Replace(raw, "gpgsig", "x-extra 1\ngpgsig", 1),
		"not base64":      strings.Replace(raw, "U1NIU0lH", "!!!!!!!!", 1),
	} {
		if bad == raw {
			t.Fatalf("%s changes nothing", name)
		}
		h := w.repo.Object("commit", []byte(bad))
		w.repo.Git("update-ref", "refs/heads/main", h)
		_, err := w.verify(h, State{})
		w.refused(err, LinkSignature, diag.CodeUnsigned)
	}
}

// Commits signed by git itself, with the programs that people have.
func TestCommitsSignedByGitItself(t *testing.T) {
	w := newWorld(t)
	w.repo.Git("config", "gpg.format", "ssh")
	w.repo.Git("config", "user.signingkey", w.alice.File(t))
	tried := 0
	if _, err := exec.LookPath("ssh-keygen"); err == nil {
		tried++
		s := w.gitCommit("bookinfo/a.cue")
		if v := w.approved(s, State{}).Record().Commits[0].Vouches; len(v) != 1 || v[0].Method != SSHKey {
			t.Errorf("vouches %+v", v)
		}
	}
	if _, err := exec.LookPath("gpg"); err == nil {
		tried++
		home := t.TempDir()
		if err := os.Chmod(home, 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GNUPGHOME", home)
		t.Cleanup(func() { _ = exec.Command("gpgconf", "--kill", "all").Run() })
		gpg := func(args ...string) string {
			t.Helper()
			out, err := exec.Command("gpg", append([]string{"--batch", "--quiet", "--passphrase", ""}, args...)...).Output()
			if err != nil {
				t.Fatalf("gpg %v: %v", args, err)
			}
			return string(out)
		}
		gpg("--quick-generate-key", "T <t@example.test>", "ed25519", "sign", "1d")
		w.replace(`bob: {keys: [{ssh: "BOB"}]}`, `bob: {keys: [{pgp: `+quoteYAML(gpg("--armor", "--export", "t@example.test"))+`}]}`)
		w.repo.Git("config", "gpg.format", "openpgp")
		w.repo.Git("config", "user.signingkey", "t@example.test")
		w.now = time.Now()
		s := w.gitCommit("shop/a.cue")
		v := w.approved(s, State{}).Record().Commits
		if got := v[len(v)-1].Vouches; len(got) != 1 || got[0].Method != PGPKey || got[0].Signer != "bob" {
			t.Errorf("vouches %+v", got)
		}
	}
	t.Logf("%d of git's two signing programs are on this machine", tried)
}

func (w *world) gitCommit(path string) string {
	w.t.Helper()
	full := filepath.Join(w.repo.Dir, path)
	if err := os.MkdirAll(filepath.Dir(full), 0o750); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte("x"), 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.repo.Git("reset", "-q")
	w.repo.Git("add", "-A")
	w.repo.Git("commit", "-q", "-S", "-m", "by git", "--date", w.now.Format(time.RFC3339))
	w.now = time.Now().Add(time.Minute) // git dates its commits by today's clock
	return w.repo.Git("rev-parse", "HEAD")
}

// Approval tags written by meshc are tags that git reads, and the policy that
// would not count them refuses to write them.
func TestTagsAreWrittenOnlyIfTheyWouldCount(t *testing.T) {
	w := newWorld(t)
	w.environment(", statementSigners: [ops]")
	c := w.commit(nil, "bookinfo/a.cue", "1")
	if _, err := w.author(w.eve).Approve(w.candidate(c), w.trust()); err == nil {
		t.Error("a stranger's approval is written")
	}
	if _, err := w.author(w.alice).Statement(w.candidate(c), w.trust()); err == nil {
		t.Error("a statement by somebody who may not is written")
	}
	for what, m := range map[string]RollbackMessage{
		"no reason": {Environment: "prod", From: c, To: w.root}, "forwards": {Environment: "prod", From: w.root, To: c, Reason: "r"}, "same": {Environment: "prod", From: c, To: c, Reason: "r"},
	} {
		if _, err := w.author(w.ops).RollBack(w.snapshot(), w.trust(), m); err == nil {
			t.Errorf("rollback with %s is written", what)
		}
	}
	tag, err := w.author(w.alice).Approve(w.candidate(c), w.trust())
	if err != nil || tag.Name != "meshc/approve/prod/"+c+"/alice" || tag.Signature.Kind != gitrepo.SSHSignature {
		t.Fatalf("tag %+v, %v", tag, err)
	}
	if got := w.repo.Git("rev-parse", tag.Name+"^{commit}"); got != c {
		t.Errorf("git sees %s", got)
	}
	w.repo.Git("fsck", "--strict")
}
