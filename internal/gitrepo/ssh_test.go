package gitrepo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/gitrepo/gittest"
)

func TestFetchOverSSH(t *testing.T) {
	k, stranger := gittest.NewKey(t), gittest.NewKey(t)
	r := gittest.New(t)
	r.Commit(gittest.Commit{Files: map[string]string{"a.cue": "1"}, Key: &k})
	addr, line := gittest.SSHServer(t, filepath.Dir(r.Dir), k)
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte(line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, otherLine := gittest.SSHServer(t, "", k)
	wrong := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(wrong, []byte(strings.Replace(otherLine, strings.Fields(otherLine)[0], strings.Fields(line)[0], 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fetch := func(key gittest.Key, hosts string) error {
		repo, err := gitrepo.Open(fmt.Sprintf("ssh://git@%s/%s/.git", addr, filepath.Base(r.Dir)), "refs/heads/main",
			gitrepo.Options{Auth: gitrepo.Auth{SSHKey: key.PEM, KnownHosts: []string{hosts}}, Timeout: 2 * time.Minute})
		if err != nil {
			return err
		}
		s, err := repo.Fetch(context.Background())
		if err != nil {
			return err
		}
		return readAll(s)
	}
	if err := fetch(k, known); err != nil {
		t.Error(err)
	}
	nobody := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(nobody, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		key        gittest.Key
		hosts, fix string
	}{
		{stranger, known, "load a key that the server lets in"},
		{k, wrong, "another key than known_hosts has"},
		{k, nobody, "ssh-keyscan"},
	} {
		var failed *gitrepo.TransportError
		if err := fetch(c.key, c.hosts); !errors.As(err, &failed) || !strings.Contains(failed.Diagnostic().Fix, c.fix) {
			t.Errorf("%v, want the way out %q", err, c.fix)
		}
	}
}
