package compiler_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"meshc.dev/meshc/internal/golden"
)

// The repository of an organisation with sixty services: six teams, each with a namespace,
// and a gateway of a seventh. Who calls whom follows from the services' numbers.
var (
	sixtyTeams = []string{"catalog", "orders", "payments", "users", "growth", "platform"}
	sixtyNames = map[string][]string{
		"catalog":  {"api", "feed", "images", "search", "prices", "brands", "reviews", "ratings", "stock", "tags"},
		"orders":   {"api", "cart", "checkout", "history", "returns", "invoices", "shipping", "tracking", "labels", "audit"},
		"payments": {"auth", "capture", "refunds", "ledger", "sync", "fraud", "wallet", "cards", "fees", "reports"},
		"users":    {"profile", "login", "sessions", "prefs", "avatars", "consent", "export", "devices", "mail", "push"},
		"growth":   {"offers", "banners", "abtest", "metrics", "surveys", "coupons", "referral", "news", "events", "landing"},
		"platform": {"config", "flags", "jobs", "files", "geo", "translate", "limits", "notify", "docs", "status"},
	}
	sixtyDoors = []string{"catalog/api", "growth/landing", "orders/api", "users/login", "users/profile"}
)

// sixty is that repository.
func sixty() fstest.MapFS {
	var all []string
	for _, team := range sixtyTeams {
		for _, s := range sixtyNames[team] {
			all = append(all, team+"/"+s)
		}
	}
	calls, callers := map[string][]string{}, map[string][]string{}
	for i, s := range all {
		for _, step := range []int{3, 11, 17}[:i%4] {
			if to := i + step; to < len(all) {
				calls[s] = append(calls[s], all[to])
				callers[all[to]] = append(callers[all[to]], s)
			}
		}
	}
	out := fstest.MapFS{"mesh.cue": {Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {owner: \"platform\", trustDomain: \"corp.example\"}\nmesh: environment: prod: {}\n")}}
	head := "package %[1]s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: {namespace: %[1]q, owner: \"team-%[1]s\"}\n"
	for _, team := range sixtyTeams {
		var b strings.Builder
		fmt.Fprintf(&b, head, team)
		for _, name := range sixtyNames[team] {
			s := team + "/" + name
			fmt.Fprintf(&b, "\nmesh: service: %s: {\n\tport: http: number: 8080\n\tversion: {v1: {}, v2: {}}\n", name)
			if to := calls[s]; len(to) > 0 {
				fmt.Fprintf(&b, "\tcalls: {\"%s\": {}}\n", strings.Join(to, `": {}, "`))
			}
			b.WriteString("\troute: {\n\t\tbeta: {match: headers: \"x-beta\": exact: \"1\", to: v2: 100}\n\t\tdefault: {to: {v1: 95, v2: 5}, timeout: \"4s\"}\n\t}\n\tgrant: {\n")
			if from := callers[s]; len(from) > 0 {
				fmt.Fprintf(&b, "\t\tcallers: {from: %s, methods: [\"GET\", \"POST\"], paths: [\"/v1/*\", \"/health\"]}\n", quoted(from))
			}
			if slices.Contains(sixtyDoors, s) {
				b.WriteString("\t\tedge: {from: [\"gateway/edge/edge\"], paths: [\"/v1/*\", \"/health\"]}\n")
			}
			b.WriteString("\t\thealth: {mesh: true, methods: [\"GET\"], paths: [\"/health\"]}\n\t}\n}\n")
		}
		out[team+"/"+team+".cue"] = &fstest.MapFile{Data: []byte(b.String())}
	}
	var b strings.Builder
	fmt.Fprintf(&b, head+"mesh: gateway: edge: {port: http: number: 8443, host: \"shop.example\": route: {\n", "edge")
	for _, s := range sixtyDoors {
		team, name, _ := strings.Cut(s, "/")
		fmt.Fprintf(&b, "\t%s%s: {match: path: prefix: \"/v1/%s-%s\", to: %q: 100}\n", team, name, team, name, s)
	}
	b.WriteString("}}\n")
	out["edge/edge.cue"] = &fstest.MapFile{Data: []byte(b.String())}
	return out
}

// Plans of changes as teams make them every day. A case is edits of the repository, a line each:
// a file, what is in it, and what stands in its place everywhere.
func TestPlansOfManyServices(t *testing.T) {
	golden.Run(t, "testdata/sixty", func(t *testing.T, c golden.Case) map[string][]byte {
		w := whole{before: sixty(), files: sixty(), opts: map[string]string{"at": compileDate}}
		for _, l := range lines(c.In["edit"]) {
			file, rest, _ := strings.Cut(l, ": ")
			old, fresh, ok := strings.Cut(rest, " => ")
			f := w.files[file]
			if !ok || f == nil || !strings.Contains(string(f.Data), old) {
				t.Fatalf("%q edits nothing of %q", l, slices.Sorted(maps.Keys(w.files)))
			}
			f.Data = []byte(strings.ReplaceAll(string(f.Data), old, strings.ReplaceAll(fresh, `\n`, "\n")))
		}
		p, ds := w.load(t, w.files, compileDate)
		if p == nil {
			return map[string][]byte{"diag": text(ds)}
		}
		return map[string][]byte{"plan": w.plan(t, p)}
	})
}
