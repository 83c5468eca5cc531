package certref

import "testing"

func TestNamesLeadToOnePlace(t *testing.T) {
	for _, r := range []Ref{{File: "shop-tls"}, {File: "shop.example"}} {
		if back, ok := Parse(r.String()); !ok || back != r {
			t.Errorf("%q is read as %+v, %v", r, back, ok)
		}
	}
	for _, name := range []string{
		"", "default", "ROOTCA", "certificate/file/", "certificate/file/..", "certificate/file/a/../b", "certificate/file/a..b",
		"certificate/file//etc", "certificate/file/A", "certificate/secret/a/b", "certificate/other/a",
	} {
		if r, ok := Parse(name); ok {
			t.Errorf("%q is read as %+v", name, r)
		}
	}
}
