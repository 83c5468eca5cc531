package certref

import "testing"

func TestNamesLeadToOnePlace(t *testing.T) {
	for _, r := range []Ref{{File: "shop-tls"}, {File: "shop.example"}, {Secret: "edge/shop-tls"}, {Secret: "edge/shop.tls"}} {
		if back, ok := Parse(r.String()); !ok || back != r {
			t.Errorf("%q is read as %+v, %v", r, back, ok)
		}
	}
	for _, name := range []string{
		"", "default", "ROOTCA", "certificate/file/", "certificate/file/..", "certificate/file/a/../b", "certificate/file/a..b",
		"certificate/file//etc", "certificate/file/A", "certificate/secret/shop-tls", "certificate/secret/a/b/c", "certificate/secret/a/../b",
		"certificate/secret/a.b/c", "certificate/secret//c", "certificate/other/a",
	} {
		if r, ok := Parse(name); ok {
			t.Errorf("%q is read as %+v", name, r)
		}
	}
}
