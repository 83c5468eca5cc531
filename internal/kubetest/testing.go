package kubetest

import "testing"

// ForTest starts a cluster that ends with the test. If the test fails, it shows the last
// lines of the cluster's logs.
func ForTest(t testing.TB, o Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(c.Logs(30))
		}
		c.Stop()
	})
	return c
}
