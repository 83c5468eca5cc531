package gitrepo_test

import (
	"strings"
	"testing"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
)

// Attack 13: addresses and refs that a transport, a shell or git could take for
// something else. They are refused before any transport exists.
func TestAttack13AddressesAndRefs(t *testing.T) {
	bad := []string{
		"", "-", "--upload-pack=touch x", "-oProxyCommand=id", "-/repo", "ext::sh -c id", "ext::", "fd::17", "x::https://h/r", "https::https://h/r",
		"file:///srv/repo", "FILE:///srv/repo", "file://host/repo", "file:relative", "http://h/r", "HTTP://h/r", "git://h/r", "ftp://h/r", "ftps://h/r",
		"rsync://h/r", "ssh+git://h/r", "git+ssh://h/r", "javascript:alert(1)", "data:text/plain,x", "HTTPS://h/r", "https:/h/r", "https:h/r",
		"https://", "https:///r", "https://h", "https://h/", "https://h/r?x=1", "https://h/r?", "https://h/r#frag", "https://h/r#", "https://u:p@h/r", "https://u@h/r",
		"https://-h/r", "https://h_/r", "https://h-/r", "https://h o/r", "https://h\n/r", "https://h/r\n", "https://h/r\r\nHost: x", "https://h/r\x00", "https://h/\x1b[0m",
		"https://h/../r", "https://h/a/../../r", "https://h/%2e%2e/r", "https://h/-r", "https://h//-r", "https://h/$(id)", "https://h/`id`", "https://h/a;b", "https://h/a|b",
		"https://h/a&b", "https://h/<a>", "https://h/\"a\"", "https://h/'a'", "https://h/a\\b", "https://h/%0a", "https://h/%00", "https://h/\u202er", "https://h/\u200b",
		"https://h/%60id%60", "https://[::1]x/r", "https://h:port/r", "https://h/%zz", "https://[::1%25id]/r", "https://[x]/r", "https://[]/r", "ssh://[::1]:0/r", "a::/b", "ext::/r",
		"ssh://-oProxyCommand=id/r", "ssh://h", "ssh://h/", "ssh://u:p@h/r", "ssh://-u@h/r", "ssh://u;id@h/r", "ssh://h/r;id", "ssh://h/$(id)", "ssh://h/-r", "ssh://h/~/../r",
		"ssh://h\t/r", "ssh://h/r\n", "ssh://", "ssh://@/r", "ssh://h/r#x", "ssh://h/r?x", "git@host:repo", "host:repo", "host:/abs", "-x:repo", "c:repo",
		"/srv/re\npo", "/srv/re\x00po", "re\x7fpo", "re\u200bpo", "\xff\xfe", "a::b", "sftp://h/r", "svn://h/r", "https://h:/../r", "ssh://h/r`id`",
		"ssh://h/r\\x", "ssh://u@-h/r", "https://h/\u2028r", "unix:///run/x", strings.Repeat("a", 3000),
	}
	if len(bad) < 100 {
		t.Fatalf("only %d addresses", len(bad))
	}
	for _, s := range bad {
		_, err := gitrepo.Open(s, "refs/heads/main", gitrepo.Options{})
		if err == nil {
			t.Errorf("%q is accepted", s)
			continue
		}
		wantCode(t, err, diag.CodeGitSource, "")
		if strings.ContainsAny(err.Error(), "\n\x00\x1b\u202e") {
			t.Errorf("%q is printed raw", s)
		}
	}
	for s, kind := range map[string]gitrepo.Kind{
		"https://git.example.test/team/mesh.git": gitrepo.HTTPS, "https://h:8443/r": gitrepo.HTTPS, "ssh://git@h/team/mesh.git": gitrepo.SSH, "ssh://h:2222/~a/r": gitrepo.SSH,
		"https://[::1]:8443/r": gitrepo.HTTPS, "ssh://git@[2001:db8::7]/r": gitrepo.SSH, "./a::b": gitrepo.Local, "/srv/a::b": gitrepo.Local,
		"/srv/mesh.git": gitrepo.Local, "../mesh": gitrepo.Local, ".": gitrepo.Local, "./host:repo": gitrepo.Local,
	} {
		if src, err := gitrepo.ParseSource(s, gitrepo.Schemes{}); err != nil || src.Kind != kind {
			t.Errorf("%q: %v, %v", s, src, err)
		}
	}
	if src, err := gitrepo.ParseSource("file:///srv/mesh", gitrepo.Schemes{File: true}); err != nil || src != (gitrepo.Source{Kind: gitrepo.Local, Address: "/srv/mesh"}) {
		t.Errorf("file:// that the operator allows: %v, %v", src, err)
	}
	for _, ref := range []string{
		"", "main", "HEAD", "-x", "--all", "refs/heads/", "refs/heads/-x", "refs/heads/..", "refs/heads/a..b", "refs/heads/a b", "refs/heads/a\n", "refs/heads/a\x00b",
		"refs/heads/a~1", "refs/heads/a^", "refs/heads/a:b", "refs/heads/a?", "refs/heads/a*", "refs/heads/a[", "refs/heads/a\\b", "refs/heads/a.lock", "refs/heads/.a",
		"refs/heads/a.", "refs/heads/@{u}", "refs/heads/@", "refs/heads//a", "refs/heads/a/", "refs/pull/1/head", "refs/remotes/origin/main", "+refs/heads/a", "refs/heads/\u00e4",
		"refs/heads/$(id)", "refs/heads/a;b", "refs/heads/" + strings.Repeat("a", 600),
	} {
		_, err := gitrepo.Open(".", ref, gitrepo.Options{})
		if err == nil {
			t.Errorf("ref %q is accepted", ref)
			continue
		}
		wantCode(t, err, diag.CodeGitSource, "")
	}
	for _, rev := range []string{"", "-x", "--all", "a..b", "HEAD@{1}", "a b", "a\n", "$(id)", ":/x", "^a"} {
		_, err := gitrepo.Resolve(".", rev)
		wantCode(t, err, diag.CodeGitSource, "")
	}
}
