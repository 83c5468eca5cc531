package release

import "testing"

// A server tells by the name of a cluster whose it is: also where a name is that of a role.
func TestUpstreamIsReadAsItIsWritten(t *testing.T) {
	for _, u := range []Upstream{{"shop/api", "http", "v1"}, {"app/api", "http", "v1"}} {
		if got, ok := ParseUpstream(u.String()); !ok || got != u {
			t.Errorf("%v is read as %v, %v", u, got, ok)
		}
	}
	for _, other := range []string{ExternalCluster("shop/pay", "http"), "app/shop/api/http/v1", "otlp/prod", ""} {
		if got, ok := ParseUpstream(other); ok {
			t.Errorf("%q is read as %v", other, got)
		}
	}
}
