package sample

import (
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
)

// backends is how many services stand behind the gateway.
const backends = 10

// Gateway is one gateway with many routes on one host, or with many hosts. Read only.
type Gateway struct {
	files fstest.MapFS
	n     int
	hosts bool
}

// NewGateway writes a gateway with n routes by path.
func NewGateway(n int) Gateway { return gateway(n, -1, false) }

// NewHosts writes a gateway with n hosts of two routes each.
func NewHosts(n int) Gateway { return gateway(n, -1, true) }

// FS is the file system.
func (g Gateway) FS() fs.FS { return g.files }

// Edited is the gateway with another service behind route i, or behind the routes of host i.
func (g Gateway) Edited(i int) Gateway { return gateway(g.n, i, g.hosts) }

func gateway(n, edited int, hosts bool) Gateway {
	var b strings.Builder
	b.WriteString("package edge\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"edge\"\n")
	for i := range backends {
		fmt.Fprintf(&b, "mesh: service: %s: {port: http: number: 8080, endpoints: file: %q, grant: edge: from: [\"gateway/edge\"]}\n", Name(i), Name(i))
	}
	begin, end := "host: \"*\": {owner: \"platform\", route: {\n", "}}}\n"
	if hosts {
		begin, end = "host: {\n", "}}\n"
	}
	b.WriteString("mesh: gateway: edge: {port: http: number: 8080, " + begin)
	for i := range n {
		to := i % backends
		if i == edited {
			to = (i + 1) % backends
		}
		if hosts {
			fmt.Fprintf(&b, "\t\"h%04d.example\": route: {api: {match: path: prefix: \"/api\", to: %s: 100, timeout: \"%ds\"}, rest: to: %s: 100}\n", i, Name(to), 1+i%9, Name(to))
			continue
		}
		fmt.Fprintf(&b, "\tr%04d: {match: path: prefix: \"/app%04d\", to: %s: 100}\n", i, i, Name(to))
	}
	b.WriteString(end)
	return Gateway{n: n, hosts: hosts, files: fstest.MapFS{
		"mesh.cue":           &fstest.MapFile{Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: owner: \"platform\"\n")},
		"cue.mod/module.cue": &fstest.MapFile{Data: []byte("module: \"bench.example/edge\"\nlanguage: version: \"v0.17.0\"\n")},
		"edge/edge.cue":      &fstest.MapFile{Data: []byte(b.String())},
	}}
}
