package envoy

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"meshc.dev/meshc/compiler"
)

// TestFilesOfTheRepositoryDoWhatTheySay: keys, a script and an answer that stand in files beside the intent are those that
// proxies go by, and after a change of the files the new ones.
func TestFilesOfTheRepositoryDoWhatTheySay(t *testing.T) {
	first, second := newSigner(t), newSigner(t)
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := func(s signer) string {
		text, err := strconv.Unquote(s.keys())
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const head = "\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\n"
	write("mesh.cue", "package mesh"+head)
	write("shop/shop.cue", "package shop"+head+`mesh: namespace: "shop"
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: file: "corp.json"}
mesh: service: web: {port: http: number: 80, calls: app: {}}
mesh: service: app: {
	port: http: number: 80
	users: corp: require: true
	lua: tenant: {owner: "shop", headers: sets: ["x-tenant"], file: "scripts/tenant.lua"}
	grant: web: from: ["web"]
	route: {closed: {match: path: exact: "/closed", respond: {status: 503, file: "pages/closed.html"}}, all: to: default: 100}
}
`)
	// One memo for both, as a server or an editor has: nothing but the files changes.
	o := compiler.Options{At: compileDate(), Cache: compiler.MemoryCache(10, nil), Memo: compiler.NewMemo()}
	for _, round := range []struct {
		tenant, page string
		by, other    signer
	}{{"one", "closed\n", first, second}, {"two", "closed until noon\n", second, first}} {
		write("shop/corp.json", keys(round.by))
		write("shop/scripts/tenant.lua", "function envoy_on_request(handle)\n\thandle:headers():replace(\"x-tenant\", \""+round.tenant+"\")\nend\n")
		write("shop/pages/closed.html", round.page)
		p, ds := compiler.Load(os.DirFS(dir), o)
		if err := ds.Err(); err != nil {
			t.Fatal(err)
		}
		asked := compiler.Request{From: "shop/web", To: "shop/app"}
		reh, stage := stageOf(t.Context(), t, p, []compiler.Request{asked})
		ask := func(path, token string) (status int, text, tenant string) {
			t.Helper()
			got, err := stage.Ask(t.Context(), reh.Doors[0], compiler.Request{From: "shop/web", To: "shop/app", Path: path, Headers: []compiler.Header{{Name: "authorization", Value: "Bearer " + token}}})
			if err != nil {
				t.Fatal(err)
			}
			if got.Seen != nil && len(got.Seen.Headers["x-tenant"]) == 1 {
				tenant = got.Seen.Headers["x-tenant"][0]
			}
			return got.Status, got.Text, tenant
		}
		if status, _, tenant := ask("/x", round.by.token(nil)); status != 200 || tenant != round.tenant {
			t.Errorf("a token of the issuer: %d, x-tenant %q", status, tenant)
		}
		if status, _, _ := ask("/x", round.other.token(nil)); status != 401 {
			t.Errorf("a token by other keys: %d", status)
		}
		if status, text, _ := ask("/closed", ""); status != 503 || text != round.page {
			t.Errorf("the page: %d, %q", status, text)
		}
	}
}
