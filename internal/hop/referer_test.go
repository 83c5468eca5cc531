package hop

import "testing"

// What the real Envoy leaves of a header, asked once for each of these.
func TestGoodReferer(t *testing.T) {
	for text, want := range map[string]bool{
		"https://a.test/x": true, "HTTPS://A.TEST/": true, "ftp://a.test": true, "https://a..b": true, "https://-": true, "https://[::1]:80/x": true, "https://a.test?q?r": true,
		"https://a.test/|": true, "https://a.test/{x}": true, "https://a.test:0/": true, "https://a.test:65535": true, "": true, "/x": true, "x": true, "//a.test:80/x": true, "a/b:c": true, "%zz": true,
		"a,b": true, "?q": true, "*": true,
		"https://a.test/x#f": false, "https://u@a.test/x": false, "https://@a": false, "about:blank": false, "a:b": false, "x?y:z": false, "/x#f": false, "a b": false, "é": false, "https://a.test/é": false,
		"https://a.test/a b": false, "https://a.test/\tb": false, "https://a.test:65536/": false, "https://a.test:/": false, "http:///x": false, "https:": false, "a1://a.test": false, "https://a_b.test/": false, "https://a~b.test/": false, "[": false, "|": false,
	} {
		if GoodReferer(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
