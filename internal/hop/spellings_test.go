package hop_test

import (
	"regexp"
	"strings"
	"testing"

	"meshc.dev/meshc/internal/hop"
)

func TestSpellings(t *testing.T) {
	for path, c := range map[string]struct{ takes, leaves string }{
		"/admin": {
			"/admin /admin/ /%61dmin /%2561dmin /%25252561dmin /admin;x /admin;x/ /;x/admin /admin%3bx /admin%253Bx /Admin /ADMIN/ /%41dmin /adm%2549N %252fadmin //admin /;/;/admin",
			"/ /adminx /admin/x /x/admin /admi /\x01dmin /@dmin /a;dmin /admin.x /%2562dmin /admin?x",
		},
		"/admin/*": {
			"/admin /admin/ /admin/x /admin/x/y /admin;p/x /admin%252fx /admin%255Cx /admin;p",
			"/administrator /x/admin/y / /admin.x",
		},
		"/a!b/c%20d":  {"/a!b/c%20d /a%21b/c%2520d /a!b;1/c%20d;2 /a!b//c%20d", "/a!b /a%22b/c%20d /a!b/c+d"},
		"/a[1]{":      {"/A[1]{ /a%5B1%5d%7b /%61%5b1]{", "/a{1}{ /a[1][ /A{1]{"},
		"/*":          {"/ /x //", ""},
		"/by/{id}":    {"/by/1 /BY/a;p/ /by//x /%62y/%2561 /by%252f1 /by;q/1 /by/;p /by/a%252Fb", "/by /by/ /by/1/x /xby/1"},
		"/by/{id}/*":  {"/by/1 /by/1/x /by/1/ /by/1;p/x/y /by/1%252fx", "/by /by/ /x/by/1"},
		"/{a}/b":      {"/x/b /x/B/ /;p/b /x/%2562", "/b /x/y/b //b"},
		"/":           {"/ // /;x", "/x"},
		"/a.b/[x]$/*": {"/a.b/[x]$/1 /a%252eb/%5Bx]%24", "/axb/[x]$/1 /a.b/x$"},
	} {
		re := regexp.MustCompile(`\A(?:` + hop.Spellings(path) + `)\z`)
		for _, p := range strings.Fields(c.takes) {
			if !re.MatchString(p) {
				t.Errorf("%s does not take %q", path, p)
			}
		}
		for _, p := range strings.Fields(c.leaves) {
			if re.MatchString(p) {
				t.Errorf("%s takes %q", path, p)
			}
		}
	}
}
