package eval_test

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/eval"
)

// Each line was the answer of an Envoy 1.40.0 with the same settings.
func TestNormalise(t *testing.T) {
	for raw, want := range map[string]string{
		"/a": "/a", "/a?x=/../b": "/a", "//a": "/a", "/%61": "/a", "/c/../a": "/a", "/c/%2e%2e/a": "/a", `/c\..\a`: "/a",
		"/c/..;/a": "/a", "/c/..;p;q": "/", "/c/.;\\x/a": "/c/a", "/c/...;/a": "/c/...;/a", "/c;x/../a": "/a", "/c//..;/a": "/c/a",
		"/c/%2e%2e;/a": "/c/..;/a", `/c\..;/a`: "/c/..;/a", "/c/..%3b/a": "/c/..%3b/a", "/c/..;%zz/a": "/a",
		"/%%32e/a": "/%252e/a", "/%2%65%2%65": "/%252e%252e", "/%%30%30": "/%2500", "/a/": "/a/", "/a//": "/a/", "/a/.": "/a/", "/a/b/..": "/a/", "/../a": "/a", "/%7Eu": "/~u",
		"/u%c3%a9": "/u%c3%a9", "/u%C3%A9": "/u%C3%A9", "/a%zz": "/a%zz", "/a%": "/a%", "/a%2": "/a%2",
		"//": "//", "///": "//", "/a//../b": "/a/b", "/a/..//b": "/b", "/a\"<>^`{|}b": "/a%22%3C%3E%5E%60%7B%7C%7Db", "/a[b]": "/a[b]", "/.": "/", "/..": "/",
		"/...": "/...", "/%2e": "/", "/a/%2e": "/a/", "/%2E%2e/b": "/b", "/a%01": "/a%01", "/%252e": "/%252e", "/%%61": "/%a", "/%5E": "/%5E",
	} {
		if got, ok := eval.Normalise(raw); !ok || got != want {
			t.Errorf("%s: %q %v, want %q", raw, got, ok, want)
		}
	}
	for _, raw := range []string{"/a%2Fb", "/a%2fb", "/a/..;%2f/b", "/a%5Cb", "/a%00", "/a#b", "/\u00e9", "/\x7f", "a", "*", `\a`, ""} {
		if got, ok := eval.Normalise(raw); ok {
			t.Errorf("%s: accepted as %q", raw, got)
		}
	}
}

func TestStable(t *testing.T) {
	for path, want := range map[string]bool{"/": true, "/a;p": true, "/a/...;p": true, "/a/x..;p": true, "/a/..;": false, "/.;/b": false, "/a/..;p/b": false} {
		if eval.Stable(path) != want {
			t.Errorf("%s: not %v", path, want)
		}
	}
}
