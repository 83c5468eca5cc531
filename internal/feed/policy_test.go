package feed

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/fsnotify/fsnotify"

	"meshc.dev/meshc/internal/approval"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

// policyFile is a site's policy in a file that is followed.
type policyFile struct {
	s    *site
	path string
	got  chan Event
	wake chan struct{}
	text string
}

func followed(t *testing.T, s *site) *policyFile {
	t.Helper()
	p := &policyFile{s: s, path: filepath.Join(t.TempDir(), "trust.yaml"), got: make(chan Event, 100), wake: make(chan struct{}), text: s.policy()}
	p.write(p.text)
	trust, l := approval.LoadTrust(p.path)
	if l.HasErrors() {
		t.Fatal(l)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := s.feed(func(c *Config) {
		c.Trust, c.Policies, c.Wake, c.Interval = trust, FollowPolicy(ctx, p.path), p.wake, time.Hour
	})
	done := make(chan error)
	go func() { done <- f.Run(ctx, func(e Event) { p.got <- e }) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

func (p *policyFile) write(text string) {
	p.s.t.Helper()
	replace(p.s.t, p.path, text)
}

// replace replaces a file as an operator's tools do.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

func (p *policyFile) next(k Kind) Event {
	p.s.t.Helper()
	select {
	case e := <-p.got:
		if e.Kind != k {
			p.s.t.Fatalf("told %s (%v), want %s", e.Kind, e.Err, k)
		}
		return e
	case <-time.After(4 * policyPoll): // longer than where the system tells nothing
		p.s.t.Fatalf("nothing is told, want %s", k)
		return Event{}
	}
}

// A policy that changes holds without a restart, whole or not at all.
func TestThePolicyIsReadAgainWhenItsFileChanges(t *testing.T) {
	s := newSite(t, "")
	p := followed(t, s)
	p.next(Approved)
	// Somebody new signs: refused, until the operator names her.
	eve := gittest.NewKey(t)
	commit := s.commit(&eve, "mesh.cue", "1")
	p.wake <- struct{}{}
	p.next(Refused)
	more := strings.Replace(p.text, "signers: {alice", `signers: {eve: {keys: [{ssh: "`+eve.Public+`"}]}, alice`, 1)
	p.write(strings.Replace(more, "signers: [alice]", "signers: [alice, evil]", 1))
	if e := p.next(PolicyRefused); !strings.Contains(e.Err.Error(), "evil") {
		t.Errorf("told %v", e.Err)
	}
	p.write(strings.Replace(more, "signers: [alice]", "signers: [alice, eve]", 1))
	p.next(PolicyTaken)
	if e := p.next(Approved); e.Commit != commit {
		t.Errorf("approved %s", e.Commit)
	}
	// Without the file, and with one for something else, the last good one stays.
	if err := os.Remove(p.path); err != nil {
		t.Fatal(err)
	}
	p.next(PolicyRefused)
	for old, by := range map[string]string{"repository: test": "repository: other", "refs/heads/main": "refs/heads/dev", s.root: strings.Repeat("1", 40), "prod: {": "staging: {", "{prod: {": "{prod: {position: tag, statementSigners: [alice]"} {
		p.write(strings.Replace(more, old, by, 1))
		p.next(PolicyRefused)
	}
	again := s.commit(&eve, "mesh.cue", "2")
	p.wake <- struct{}{}
	if e := p.next(Approved); e.Commit != again {
		t.Errorf("approved %s", e.Commit)
	}
	// What holds is told when the file is good again; a revoked key then signs no more.
	p.write(strings.Replace(strings.Replace(more, "signers: [alice]", "signers: [alice, eve]", 1), "{eve: {", "{eve: {revoked: true, ", 1))
	p.next(PolicyTaken)
	s.commit(&eve, "mesh.cue", "3")
	p.wake <- struct{}{}
	p.next(Refused)
}

// A half-written file that would be a policy is not one: nothing is read before the
// file has come to rest.
func TestAPolicyIsReadAtRest(t *testing.T) {
	s := newSite(t, "")
	path, text := filepath.Join(t.TempDir(), "trust.yaml"), s.policy()
	strict := strings.Replace(text, "signers: [alice]", "signers: [alice], requireTags: true", 1)
	synctest.Test(t, func(t *testing.T) { // in which a busy machine is as fast as another
		events, out := make(chan fsnotify.Event), make(chan Policy)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		replace(t, path, text)
		go followPolicy(ctx, path, events, nil, time.Hour, out)
		if p := <-out; p.Err != nil {
			t.Fatal(p.Err)
		}
		var last string
		for part := range strings.Lines(strict) {
			last += part
			if err := os.WriteFile(path, []byte(last), 0o600); err != nil {
				t.Fatal(err)
			}
			events <- fsnotify.Event{Name: path, Op: fsnotify.Write}
			select {
			case p := <-out:
				t.Fatalf("told while it is written: %v", p.Err)
			case <-time.After(policyRest - time.Millisecond):
			}
		}
		want, l := approval.LoadTrust(path)
		if l.HasErrors() {
			t.Fatal(l)
		}
		if p := <-out; p.Err != nil || p.Trust.Digest != want.Digest {
			t.Errorf("told %v", p.Err)
		}
	})
}

// Key files are watched by the slow poll: what they hold belongs to the policy.
func TestAChangedKeyFileIsNoticed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "trust.yaml")
	out := make(chan Policy)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := newSite(t, "")
	text := strings.Replace(s.policy(), `{ssh: "`+s.key.Public+`"}`, "{pgpFile: a.asc}", 1)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	go followPolicy(ctx, path, nil, nil, 10*time.Millisecond, out)
	next := func() Policy {
		select {
		case p := <-out:
			return p
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
			return Policy{}
		}
	}
	if p := next(); p.Err == nil {
		t.Fatal("a policy without its key file")
	}
	digests := map[string]bool{}
	for range 2 {
		replace(t, filepath.Join(dir, "a.asc"), pgpKey(t))
		p := next()
		if p.Err != nil {
			t.Fatal(p.Err)
		}
		digests[p.Trust.Digest] = true
	}
	if len(digests) != 2 {
		t.Errorf("digests %v", digests)
	}
}

func pgpKey(t *testing.T) string {
	t.Helper()
	e, err := openpgp.NewEntity("T", "", "t@example.test", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	a, err := armor.Encode(&out, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Serialize(a), a.Close()); err != nil {
		t.Fatal(err)
	}
	return out.String() + "\n"
}
