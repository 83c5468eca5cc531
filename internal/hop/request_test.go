package hop

import "testing"

func TestAuthority(t *testing.T) {
	for text, good := range map[string]bool{
		"a": true, "A.b": true, "a:": true, "a:0": true, "a:65535": true, "a:000443": true, "[::1]": true, "[::1]:80": true, "[v1.x]": true, "127.0.0.1:1": true,
		"a_b": true, "a%20b": true, "a!$&'()*+;=b": true,
		"": false, ":80": false, "a:65536": false, "a:x": false, "a:1x": false, "a:-1": false, "a:80:80": false, "me@a": false, "a:b@c": false, "a,a": false,
		"[::1": false, "::1": false, "[]": false, "[a]": false, "[::1]x": false, "[::1%25eth0]": false, "a/b": false, "a?b": false, "a#b": false, "a b": false,
		"a\n": false, "a%2": false, "a%zz": false, "ä": false, "a|b": false, "a\\b": false,
	} {
		if got := GoodAuthority(text); got != good {
			t.Errorf("%q: %v, want %v", text, got, good)
		}
	}
}

func TestLength(t *testing.T) {
	for text, good := range map[string]bool{
		"0": true, "5": true, " 5\t": true, "999999999999999999": true, "00000000000000000000005": true,
		"": false, "-1": false, "+1": false, "5,5": false, "0x5": false, "5 5": false, "1000000000000000000": false, "9223372036854775808": false, "18446744073709551615": false,
	} {
		if got := GoodLength(text); got != good {
			t.Errorf("%q: %v, want %v", text, got, good)
		}
	}
}
