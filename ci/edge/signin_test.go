package edge

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// keep writes the file of some credentials into the operator's folder, at once.
func (e *edge) keep(name, file, text string) {
	e.t.Helper()
	dir := filepath.Join(e.dir, name)
	tmp := filepath.Join(dir, "."+file)
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(tmp, []byte(text), 0o600), os.Rename(tmp, filepath.Join(dir, file))); err != nil {
		e.t.Fatal(err)
	}
}

// asks is what becomes of a request by HTTPS, and what its application was told.
func (e *edge) asks(c *http.Client, url string, header ...string) (status int, told http.Header) {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodGet, "https://"+url, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	res, err := c.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode, res.Header
}

// Users sign in by keys and passwords that lie with the gateway's operator: whoever shows none of them is refused, files are
// followed, and what is wrong with some of them disturbs nobody else.
func TestUsersSignInByKeysAndPasswords(t *testing.T) {
	const one, two = "key-of-the-first-partner", "key-of-the-second-one"
	hash, err := bcrypt.GenerateFromPassword([]byte("open: sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	e := open(t, `
mesh: certificate: shop: file: "shop"
mesh: credentials: {
	partners: {file: "partners", apiKey: header: "X-API-Key", name: "x-client"}
	links: {file: "partners", apiKey: query: "key"}
	staff: {file: "staff", basic: realm: "the staff", name: "x-staff", forward: true}
	missing: {file: "missing", apiKey: header: "x-api-key"}
	broken: {file: "broken", basic: {}}
}
mesh: gateway: edge: host: {
	"shop.test": {tls: certificates: ["shop"], users: partners: {require: true, not: paths: ["/public/*"]}, route: {
		all: to: app: 100
		links: {match: path: prefix: "/links", to: app: 100, users: links: require: true}
		maybe: {match: path: prefix: "/maybe", to: app: 100, users: partners: {}}
		staff: {match: path: prefix: "/staff", to: app: 100, users: staff: require: true}
		open: {match: path: prefix: "/open", to: app: 100, users: {}}
	}}
	"missing.test": {tls: certificates: ["shop"], users: missing: require: true, route: all: to: app: 100}
	"broken.test": {tls: certificates: ["shop"], users: broken: require: true, route: all: to: app: 100}
}
`, map[string][]string{"shop": {"shop.test", "missing.test", "broken.test"}})
	e.keep("partners", "keys", "# partners\none:"+one+"\n")
	e.keep("staff", "htpasswd", "ana:"+string(hash)+"\n")
	e.keep("broken", "htpasswd", "ana:plain\n")
	c := e.client("h2", "")
	e.is(c, "https://shop.test/public/", http.StatusOK)
	eventually(t, "the first key is known", func() error {
		if status, _ := e.asks(c, "shop.test/", "x-api-key", one); status != http.StatusOK {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	basic := func(user, password string) string {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	for _, x := range []struct {
		what, url string
		header    []string
		status    int
		told      map[string]string // "" for nothing
	}{
		{"no key", "shop.test/", nil, 401, nil},
		{"a key", "shop.test/", []string{"x-api-key", one}, 200, map[string]string{"X-Client": "one", "X-Api-Key": ""}},
		{"another's name", "shop.test/", []string{"x-api-key", one, "x-client", "two"}, 200, map[string]string{"X-Client": "one"}},
		{"a wrong key", "shop.test/", []string{"x-api-key", two}, 401, nil},
		{"an empty key", "shop.test/", []string{"x-api-key", ""}, 401, nil},
		{"a key too many", "shop.test/", []string{"x-api-key", one, "x-api-key", one}, 401, nil},
		{"the beginning of a key", "shop.test/", []string{"x-api-key", one[:20]}, 401, nil},
		{"a key in a parameter", "shop.test/?key=" + one, nil, 401, nil},
		{"nobody is asked", "shop.test/public/a", []string{"x-client", "one"}, 200, map[string]string{"X-Client": ""}},
		{"nobody is asked on the route", "shop.test/open", []string{"x-client", "one"}, 200, map[string]string{"X-Client": ""}},
		{"almost a path that is left out", "shop.test/publicly", nil, 401, nil},
		{"a parameter", "shop.test/links?a=b&key=" + one + "&c=d", nil, 200, map[string]string{"Query": "a=b&c=d"}},
		{"a spelling of it", "shop.test/links?%6bey=" + strings.ReplaceAll(one, "k", "%6b"), nil, 200, nil},
		{"two parameters", "shop.test/links?key=" + one + "&key=" + one, nil, 401, nil},
		{"no parameter", "shop.test/links", []string{"x-api-key", one}, 401, nil},
		{"nobody", "shop.test/maybe", []string{"x-client", "one"}, 200, map[string]string{"X-Client": ""}},
		{"somebody", "shop.test/maybe", []string{"x-api-key", one}, 200, map[string]string{"X-Client": "one"}},
		{"a wrong somebody", "shop.test/maybe", []string{"x-api-key", two}, 401, nil},
		{"a password", "shop.test/staff", []string{"authorization", basic("ana", "open: sesame")}, 200, map[string]string{"X-Staff": "ana", "Authorization": basic("ana", "open: sesame")}},
		{"again", "shop.test/staff", []string{"authorization", basic("ana", "open: sesame")}, 200, nil},
		{"in another spelling", "shop.test/staff", []string{"authorization", "bASIC " + strings.TrimPrefix(basic("ana", "open: sesame"), "Basic ")}, 200, nil},
		{"a wrong password", "shop.test/staff", []string{"authorization", basic("ana", "open")}, 401, nil},
		{"nobody's password", "shop.test/staff", []string{"authorization", basic("eve", "open: sesame")}, 401, nil},
		{"a token", "shop.test/staff", []string{"authorization", "Bearer x"}, 401, nil},
		{"no base64", "shop.test/staff", []string{"authorization", "Basic %"}, 401, nil},
		{"nothing", "shop.test/staff", nil, 401, nil},
		{"no file", "missing.test/", []string{"x-api-key", one}, 401, nil},
		{"a bad file", "broken.test/", []string{"authorization", basic("ana", "plain")}, 401, nil},
	} {
		status, told := e.asks(c, x.url, x.header...)
		if status != x.status {
			t.Errorf("%s: %d, want %d", x.what, status, x.status)
		}
		for name, want := range x.told {
			if got := told.Get("Saw-" + name); got != want {
				t.Errorf("%s: the application sees %s %q, want %q", x.what, name, got, want)
			}
		}
		if asked := told.Get("Www-Authenticate"); (asked == `Basic realm="the staff", charset="UTF-8"`) != (status == 401 && strings.Contains(x.url, "/staff")) {
			t.Errorf("%s: www-authenticate %q", x.what, asked)
		}
	}
	eventually(t, "what is wrong is told", func() error {
		for name, text := range map[string]string{"keys/file/missing": "no such file", "passwords/file/broken": "line 1: it is no hash by bcrypt"} {
			if s := e.status(name); s.Served || !strings.Contains(s.Problem, text) || strings.Contains(s.Problem, "plain") {
				return fmt.Errorf("%+v", s)
			}
		}
		return nil
	})

	// A key that is new counts, one that is gone does not, and a file that is broken changes nothing.
	e.keep("partners", "keys", "two:"+two+"\n")
	eventually(t, "the second key is known", func() error {
		if status, told := e.asks(c, "shop.test/", "x-api-key", two); status != http.StatusOK || told.Get("Saw-X-Client") != "two" {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
	if status, _ := e.asks(c, "shop.test/", "x-api-key", one); status != http.StatusUnauthorized {
		t.Errorf("a key that is gone: %d", status)
	}
	e.keep("partners", "keys", "two")
	eventually(t, "the file is seen to be broken", func() error {
		if s := e.status("keys/file/partners"); s.Problem == "" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if status, _ := e.asks(c, "shop.test/", "x-api-key", two); status != http.StatusOK {
		t.Errorf("a key of before: %d", status)
	}
	e.keep("missing", "keys", "two:"+two+"\n")
	eventually(t, "the file that was missing is read", func() error {
		if status, _ := e.asks(c, "missing.test/", "x-api-key", two); status != http.StatusOK {
			return fmt.Errorf("%d", status)
		}
		return nil
	})
}
