package webhook

import (
	"path/filepath"
	"testing"
	"time"

	"meshc.dev/meshc/internal/kept"
	"meshc.dev/meshc/internal/keyring"
)

// A leaf that ends early, with its root, is replaced before it has ended.
func TestALeafThatEndsWithItsRoot(t *testing.T) {
	begun := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	now := begun
	life := keyring.Lifetimes{Root: 48 * time.Hour, Leaf: time.Hour}
	certs, err := openCertificates(t.Context(), kept.File(filepath.Join(t.TempDir(), "roots.json")), []string{"127.0.0.1"}, func() time.Time { return now }, life)
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) {
		t.Helper()
		now = begun.Add(d)
		if _, err := certs.roots.Maintain(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	at(42*time.Hour + 50*time.Minute) // the next root comes late, and signs five hours later
	for _, m := range []time.Duration{45, 49, 55, 59, 61} {
		at(47*time.Hour + m*time.Minute)
		if leaf, err := certs.current(); err != nil || !leaf.Leaf.NotAfter.After(now) {
			t.Errorf("%v after the first root: no certificate that lasts: %v", now.Sub(begun), err)
		}
	}
}
