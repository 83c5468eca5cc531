package flux

import (
	"testing"

	"meshc.dev/meshc/internal/kubetest"
)

// ForTest starts a Flux that ends with the test. If the test fails, it shows the last
// lines of the controllers' logs.
func ForTest(t testing.TB, c *kubetest.Cluster) *Flux {
	t.Helper()
	f, err := Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.Logs(30))
		}
		f.Stop()
	})
	return f
}
