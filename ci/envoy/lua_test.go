package envoy

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/rehearsal"
)

// scripted does to a request what its header x-do says.
const scripted = `
local asked, heap = 0, {}
local deeds = {
	fail = function(handle) handle:headers():replace("x-late", "1"); local nothing = nil; nothing() end,
	throw = function() error({}) end,
	loop = function() while true do end end,
	catch = function() while true do pcall(function() while true do end end) end end,
	hoard = function() for i = 1, 32 do heap[#heap + 1] = ("x"):rep(1048000) .. #heap end end,
	waste = function(handle) for i = 1, 128 do local s = ("x"):rep(1048000) .. i end; handle:headers():replace("x-tenant", "clean") end,
	grow = function() local s = ("x"):rep(1e9) end,
	tea = function(handle) handle:respond({[":status"] = 418, ["x-kind"] = {"green", "black"}}, "short and stout") end,
	busy = function(handle) handle:respond({[":status"] = "503"}, "sold out") end,
	mark = function(handle) handle:respond({[":status"] = "503", ["meshc-not-answered"] = "` + notConnected + `"}, "") end,
	frame = function(handle) handle:respond({[":status"] = "200", ["transfer-encoding"] = "chunked"}, "") end,
	split = function(handle) handle:headers():replace("x-tenant", "a\r\nx-user: eve") end,
	path = function(handle) handle:headers():replace(":path", "/admin") end,
	host = function(handle) handle:headers():replace("host", "other.test") end,
	user = function(handle) handle:headers():replace("x-user", "eve") end,
	who = function(handle) handle:headers():replace("X-Forwarded-Client-Cert", "URI=spiffe://eve") end,
	drop = function(handle) handle:headers():remove("x-keep") end,
	call = function(handle) handle:httpCall("any", {}, "", 100) end,
	reroute = function(handle) handle:clearRouteCache() end,
	unseal = function(handle) setmetatable(handle, {}) end,
	change = function(handle) handle.headers = function() end end,
	see = function(handle)
		local found = {}
		for name in pairs(handle:headers()) do found[#found + 1] = name end
		local function get(name) return tostring(handle:headers():get(name)) .. handle:headers():getNumValues(name) end
		handle:headers():replace("x-tenant", table.concat(found, ",") .. " " .. get("x-forwarded-client-cert") .. get("X_Forwarded.Client-Cert") .. get("x-user"))
	end,
	powers = function(handle)
		local s = ""
		handle:headers():replace("x-tenant", tostring(s.dump) .. tostring((s.format)))
	end,
	poison = function(handle) string.format = nil; handle:headers():replace("x-tenant", ("%s"):format("sound")) end,
	body = function(handle)
		local body = handle:body()
		body:setBytes(body:getBytes(0, body:length()):upper() .. "!")
		handle:headers():replace("x-tenant", "behind the body")
	end,
}
function envoy_on_request(handle)
	asked = asked + 1
	local deed = deeds[handle:headers():get("x-do") or ""]
	handle:headers():replace("x-tenant", "asked")
	if deed then deed(handle) end
	handle:logDebug("done " .. asked)
end
function envoy_on_response(handle)
	handle:headers():replace("x-script", "seen")
	if handle:headers():get(":status") == "200" then
		pcall(handle.headers(handle).replace, handle:headers(), ":status", "500")
		pcall(handle.headers(handle).replace, handle:headers(), "content-length", "1")
		pcall(handle.headers(handle).add, handle:headers(), "meshc-not-answered", "eve")
	end
end
`

// Scripts do what intent says that they may, and nothing else, at a service and at a gateway; one that fails lets its request
// pass and nobody beside it wait.
func TestScriptsDoWhatTheyMay(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	script := "#\"\"\"\n\t" + strings.ReplaceAll(strings.TrimSpace(scripted), "\n", "\n\t") + "\n\t\"\"\"#"
	prog, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"shop/shop.cue": {Data: []byte("package shop\n" + head + `mesh: namespace: "shop"
mesh: jwt: corp: {issuer: "https://id.example", audiences: ["shop"], keys: inline: ` + newSigner(t).keys() + `, claims: "x-user": "sub"}
#Scripted: {owner: "shop", headers: sets: ["x-tenant"], code: ` + script + `, ...}
mesh: service: web: port: http: number: 80
mesh: service: app: {port: http: number: 80, retry: {attempts: 2, on: ["connect-failure"]}, grant: all: {from: ["web"], not: paths: ["/closed"]}, lua: main: #Scripted, answers: all: {statuses: [503], status: 529}}
mesh: service: early: {port: http: number: 80, grant: all: {from: ["web"], not: paths: ["/closed"]}, lua: main: #Scripted & {slot: "before-access"}}
mesh: service: back: {port: http: number: 80, grant: all: {from: ["gateway/edge"], paths: ["/x", "/moved"]}}
mesh: service: signed: {port: http: number: 80, users: corp: {}, grant: all: from: ["gateway/edge"]}
mesh: gateway: edge: {port: http: number: 80, host: "shop.test": {lua: main: #Scripted, answers: all: {statuses: [503], status: 529}, route: {
	all: to: back: 100
	free: {match: path: prefix: "/free", rewrite: prefix: "/x", to: back: 100, lua: {}}
	moved: {match: path: exact: "/moved", redirect: path: "/new"}
}}}`)},
	}, compiler.Options{At: compileDate()})
	if err := ds.Err(); err != nil {
		t.Fatal(err)
	}
	const app, early, edge = 0, 1, 2
	reh, err := prog.Rehearse([]compiler.Request{{From: "shop/web", To: "shop/app"}, {From: "shop/web", To: "shop/early"}, {To: "gateway/shop/edge", Host: "shop.test"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	stage, err := rehearsal.Start(ctx, realEnvoy(t), reh, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stage.Stop)
	ask := func(door int, path, deed string) rehearsal.Reply {
		t.Helper()
		r := compiler.Request{Path: path, Headers: []compiler.Header{{Name: "x-do", Value: deed}, {Name: "x-keep", Value: "here"}}}
		if door == edge {
			r.Host = "shop.test"
		}
		got, err := stage.Ask(ctx, reh.Doors[door], r)
		if err != nil {
			t.Fatalf("%s of %s at %d: %v", deed, path, door, err)
		}
		return got
	}
	for door := range reh.Doors {
		if got := ask(door, "/x", "tea"); got.Status != 418 || got.Text != "short and stout" || got.Seen != nil || fmt.Sprint(got.Headers["x-kind"]) != "[green black]" {
			t.Errorf("door %d is answered by the script: %+v", door, got)
		}
		if got := ask(door, "/x", "busy"); got.Status != 503 || got.Text != "sold out" {
			t.Errorf("door %d: what the script says is replaced: %+v", door, got)
		}
		for deed, tenant := range map[string]string{
			"": "asked", "fail": "asked", "throw": "asked", "loop": "asked", "catch": "asked", "grow": "asked", "mark": "asked", "frame": "asked", "split": "asked", "path": "asked", "host": "asked", "user": "asked",
			"who": "asked", "drop": "asked", "call": "asked", "reroute": "asked", "unseal": "asked", "change": "asked", "powers": "", "see": "", "poison": "sound",
		} {
			got := ask(door, "/x", deed)
			if got.Status != 200 || got.Seen == nil {
				t.Errorf("door %d, %q: %+v", door, deed, got)
				continue
			}
			h := got.Seen.Headers
			if said := strings.Join(h["x-tenant"], "|"); tenant != "" && said != tenant {
				t.Errorf("door %d, %q: the application sees x-tenant %q, want %q", door, deed, said, tenant)
			}
			if got.Seen.Path != "/x" || got.Seen.Host == "other.test" || h["x-user"] != nil || h["x-late"] != nil || fmt.Sprint(h["x-keep"]) != "[here]" || strings.Contains(fmt.Sprint(h), "eve") {
				t.Errorf("door %d, %q: the application sees %s of %s with %v", door, deed, got.Seen.Path, got.Seen.Host, h)
			}
			if fmt.Sprint(got.Headers["x-script"]) != "[seen]" || got.Headers["meshc-not-answered"] != nil || len(got.Text) == 1 {
				t.Errorf("door %d, %q: answered %v, %q", door, deed, got.Headers, got.Text)
			}
		}
		see, powers := ask(door, "/x", "see").Seen.Headers["x-tenant"][0], ask(door, "/x", "powers").Seen.Headers["x-tenant"][0]
		if strings.Contains(see, "forwarded-client") || strings.Contains(see, "spiffe") || strings.Contains(see, "x-user") || !strings.Contains(see, ":path") || !strings.HasSuffix(see, " nil0nil0nil0") {
			t.Errorf("door %d: a script sees %s", door, see)
		}
		if !strings.HasPrefix(powers, "nilfunction") {
			t.Errorf("door %d: a script has %s", door, powers)
		}
	}
	n := 0
	for _, s := range stage.Seen() {
		if s.Target == "shop/app/http/default" && fmt.Sprint(s.Headers["x-do"]) == "[mark]" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("a script had a request done %d times", n)
	}
	for _, c := range []struct {
		door   int
		path   string
		status int
	}{
		{early, "/closed", 418}, // before it is known whether he may come
		{app, "/closed", 403},
		{edge, "/moved", 418},
		{edge, "/free", 200},
	} {
		if got := ask(c.door, c.path, "tea"); got.Status != c.status {
			t.Errorf("%s at %d: %d, want %d", c.path, c.door, got.Status, c.status)
		}
	}
	posted, err := stage.Ask(ctx, reh.Doors[app], compiler.Request{Method: "POST", Path: "/x", Headers: []compiler.Header{{Name: "x-do", Value: "body"}, {Name: "content-length", Value: "5"}}})
	if err != nil || posted.Status != 200 || posted.Seen == nil || fmt.Sprint(posted.Seen.Headers["x-tenant"], posted.Seen.Headers["content-length"]) != "[behind the body] [6]" {
		t.Errorf("a body that a script has changed: %+v, %v", posted, err)
	}
	if got, err := stage.Ask(ctx, reh.Doors[app], compiler.Request{Method: "POST", Path: "/x", Headers: []compiler.Header{{Name: "x-do", Value: "body"}, {Name: "content-length", Value: "8388608"}}}); err != nil || got.Status != 413 || got.Seen != nil {
		t.Errorf("a body that is longer than what a proxy keeps: %+v, %v", got, err)
	}
	for i := range 8 { // what a script keeps has an end, and what it throws away has none
		if got := ask(app, "/x", "waste"); got.Seen == nil || fmt.Sprint(got.Seen.Headers["x-tenant"]) != "[clean]" {
			t.Errorf("what is thrown away: %+v", got)
		}
		if got := ask(early, "/x", "hoard"); got.Status != 200 || got.Seen == nil || i > 3 && got.Seen.Headers["x-tenant"] != nil {
			t.Errorf("a script that keeps too much: %+v", got)
		}
	}
	stats, err := stage.Admin(ctx, release.Class{Role: release.Sidecar, Namespace: "shop", Account: "app"}, "/stats?filter=lua.main")
	if err != nil || !strings.Contains(string(stats), ".lua.main.errors: ") || strings.Contains(string(stats), ".errors: 0\n") {
		t.Errorf("what scripts fail is counted: %s, %v", stats, err)
	}
}
