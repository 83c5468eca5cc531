package gitrepo_test

import (
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// What a pack would unpack to is known before it is unpacked.
func TestPackLimitsAreCheckedBeforeUnpacking(t *testing.T) {
	base := packed{kind: 3, size: 10, data: make([]byte, 10)}
	ok := makePack(base, packed{kind: 6, size: 12, back: 19, data: deltaTo(10, 1<<20)})
	if n, err := gitrepo.CheckPack(ok, gitrepo.Limits{}); err != nil || n != 10+1<<20 {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for name, c := range map[string]struct {
		pack []byte
		l    gitrepo.Limits
		word string
	}{
		"object":        {makePack(packed{kind: 3, size: 9 << 20, data: make([]byte, 9<<20)}), gitrepo.Limits{}, "an object of"},
		"what it makes": {ok, gitrepo.Limits{ObjectBytes: 1 << 19}, "an object of"},
		"sum":           {ok, gitrepo.Limits{Inflated: 1 << 20}, "unpacks to"},
		"count":         {ok, gitrepo.Limits{PackObjects: 1}, "2 objects"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gitrepo.CheckPack(c.pack, c.l)
			wantCode(t, err, diag.CodeGitLimit, c.word)
		})
	}
	flipped := append([]byte{}, ok...)
	flipped[len(flipped)-30] ^= 1
	for name, pack := range map[string][]byte{"flipped": flipped, "empty": nil, "short": ok[:40]} {
		if _, err := gitrepo.CheckPack(pack, gitrepo.Limits{}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}
