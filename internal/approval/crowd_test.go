package approval

import (
	"crypto"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"meshc.dev/meshc/internal/canon"
)

// crowd pushes n tags of each kind that strangers and known keys without a say could
// push: statements, rollback records and approvals by an RSA key of 4096 bits in
// PGP's form and by an ed25519 key in SSH's, signed for something else.
func (w *world) crowd(rsa pgpWith, n int, commits ...string) {
	w.t.Helper()
	sign := func(text string) [2]string {
		pgp, err := rsa.Sign(strings.NewReader(text))
		if err != nil {
			w.t.Fatal(err)
		}
		ssh, err := w.bob.Signer().Sign(strings.NewReader(text))
		if err != nil {
			w.t.Fatal(err)
		}
		return [2]string{string(pgp), string(ssh)}
	}
	signed := sign("something else")
	var in strings.Builder
	tag := func(i int, name, commit string, message any) {
		raw, err := canon.JSON(message)
		if err != nil {
			w.t.Fatal(err)
		}
		text := string(raw) + signed[i%2]
		fmt.Fprintf(&in, "tag %s\nfrom %s\ntagger T <t@example.test> %d +0000\ndata %d\n%s\n", name, commit, w.now.Unix()+int64(i), len(text), text)
	}
	for i := range n {
		c := commits[i%len(commits)]
		st := StatementMessage{Repository: repository, Commit: c, Environment: "prod", Compiler: "v1", Schema: "s", Policy: "p", Releases: []ReleaseStep{{Digest: canonDigest(fmt.Sprint(i))}}, Seq: int64(i + 10)}
		tag(i, statementName(st.Seq), c, st)
		tag(i, rollbackTags("prod")+itoa(int64(i+1)), commits[0], RollbackMessage{Repository: repository, Environment: "prod", From: commits[len(commits)-1], To: commits[0], Reason: "r"})
		tag(i, approvalTags("prod", c)+fmt.Sprintf("x%d", i), c, TagMessage{Repository: repository, Commit: c, Environment: "prod", Compiler: "v1", Releases: st.Releases})
		tag(i, approvalTags("other", c)+fmt.Sprintf("x%d", i), c, TagMessage{Repository: repository, Commit: c, Environment: "other", Compiler: "v1", Releases: st.Releases})
	}
	w.repo.GitIn([]byte(in.String()), "fast-import", "--quiet")
}

func rsa4096(t testing.TB, born time.Time) pgpWith {
	t.Helper()
	c := &packet.Config{RSABits: 4096, Algorithm: packet.PubKeyAlgoRSA, DefaultHash: crypto.SHA512, Time: func() time.Time { return born }}
	e, err := openpgp.NewEntity("T", "", "t@example.test", c)
	if err != nil {
		t.Fatal(err)
	}
	return pgpWith{e: e, config: c}
}

// crowded is a repository with a crowd of tags, a head that takes a statement and
// approvals, and honest ones among them.
func crowded(t testing.TB, n int) (w *world, line []string, s State) {
	t.Helper()
	w = newWorld(t)
	rsa := rsa4096(t, w.now.Add(-time.Hour))
	w.environment(", position: tag, statementSigners: [ops]")
	w.replace("rules:", `  mallory: {keys: [{pgp: `+quoteYAML(publicPGP(t, rsa.e))+`}]}`+"\nrules:")
	for i := range 20 {
		line = append(line, w.commit(&w.alice, "bookinfo/a.cue", fmt.Sprint(i)))
	}
	w.state(w.ops, line[0])
	s = w.approved(line[0], State{}).State()
	board := w.commit(nil, "board/a.cue", "1")
	w.approve(w.alice, board)
	w.approve(w.bob, board)
	head := w.commit(&w.alice, "bookinfo/a.cue", "end")
	w.state(w.ops, head)
	w.crowd(rsa, n, append(append([]string{}, line...), board, head)...)
	return w, append(line, board, head), s
}

// look is what a server does at each look: next, ignored, judged.
func (w *world) look(c Candidate, s State, t Trust, compile Compile) (Approved, error) {
	next, err := Next(c, s, t, w.now)
	if err != nil {
		return Approved{}, err
	}
	_ = Ignored(c, s, t, w.now)
	c.Commit = next
	return Judge(c, s, t, w.now, compile)
}

// Tags of strangers do not crowd out honest ones, and each signature is looked at
// once: the second look proves nothing again, and tags that are named for nobody are
// never read.
func TestACrowdOfTagsIsLookedAtOnce(t *testing.T) {
	const n = 300
	w, line, s := crowded(t, n)
	trust, snap := w.trust(), w.snapshot()
	c := Candidate{Snapshot: snap, Environment: "prod", Compiler: "v1"}
	var proofs []int
	for range 3 {
		a, err := w.look(c, s, trust, w.compile(snap))
		if err != nil || a.Commit() != line[len(line)-1] || a.Record().Place.Position != 2 {
			t.Fatalf("%v %+v", err, a.Record().Place)
		}
		proofs = append(proofs, len(trust.proofs.now)+len(trust.proofs.old))
	}
	// Statements, rollback records, commits and the honest tags: not the approvals.
	if most := 2*n + len(line) + 10; proofs[0] > most || proofs[0] < 2*n || proofs[2] != proofs[0] {
		t.Errorf("signatures looked at: %v, at most %d", proofs, most)
	}
	// Another policy judges by itself.
	if _, err := w.look(c, s, w.trust(), w.compile(snap)); err != nil {
		t.Error(err)
	}
}

// What is served next hangs on the newest statement that counts: of those behind it
// nothing is read, however many there are, and of those before it everything.
func TestTheNewestStatementDecides(t *testing.T) {
	w := newWorld(t)
	w.environment(", position: tag, statementSigners: [ops]")
	var in strings.Builder
	var heads []string
	for i := range 3 {
		heads = append(heads, w.commit(&w.alice, "bookinfo/a.cue", fmt.Sprint(i)))
	}
	const n = 300
	for i := range n {
		fmt.Fprintf(&in, "tag %s\nfrom %s\ntagger T <t@example.test> 1 +0000\ndata 3\n%03d\n", statementName(int64(i+1)), heads[0], i)
	}
	w.repo.GitIn([]byte(in.String()), "fast-import", "--quiet")
	next := func(want string, proofs int) {
		t.Helper()
		trust := w.trust()
		got, err := Next(w.candidate(w.root), State{}, trust, w.now)
		if made := len(trust.proofs.now); err != nil || got != want || made != proofs {
			t.Errorf("next %s, %v, after %d signatures; want %s after %d", got, err, made, want, proofs)
		}
	}
	next(heads[2], n)
	w.tag(w.ops, statementName(n+1), heads[1], w.statementFor(heads[1], n+1))
	next(heads[1], 1)
	w.tag(w.ops, statementName(7), heads[2], w.statementFor(heads[2], 7))
	next(heads[1], 1)
	w.repo.Git("tag", "-d", statementName(n+1))
	next(heads[2], n) // every one before the seventh, and with them what is read ahead
}

// What is kept is bounded, and what is in use stays.
func TestMemoryIsBounded(t *testing.T) {
	m := &memory[int]{}
	made := 0
	get := func(k string) {
		m.get(k, func() int { made++; return made })
	}
	get("kept")
	for i := range 3*remembered + 10 {
		get(fmt.Sprint(i))
		if i%1000 == 0 {
			get("kept")
		}
	}
	if made != 3*remembered+11 {
		t.Errorf("made %d", made)
	}
	if len(m.now) > remembered || len(m.old) > remembered {
		t.Errorf("keeps %d and %d", len(m.now), len(m.old))
	}
	get("0")
	if made != 3*remembered+12 {
		t.Error("nothing is forgotten")
	}
}

// BenchmarkCrowd is a look at 20,000 tags of strangers: the first that meets them,
// and any later one.
func BenchmarkCrowd(b *testing.B) {
	w, _, s := crowded(b, 4990)
	snap := w.snapshot()
	c := Candidate{Snapshot: snap, Environment: "prod", Compiler: "v1"}
	run := func(b *testing.B, t Trust) {
		b.Helper()
		if _, err := w.look(c, s, t, w.compile(snap)); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			snap = w.snapshot()
			c.Snapshot = snap
			t := w.trust()
			b.StartTimer()
			run(b, t)
		}
	})
	b.Run("second", func(b *testing.B) {
		t := w.trust()
		run(b, t)
		b.ResetTimer()
		for b.Loop() {
			run(b, t)
		}
	})
}
