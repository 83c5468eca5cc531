package sample

import (
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"
)

// backends is how many services stand behind the gateway.
const backends = 10

// Gateway is one gateway with many routes on one host. Read only.
type Gateway struct {
	files fstest.MapFS
	n     int
}

// NewGateway writes a gateway with n routes by path.
func NewGateway(n int) Gateway { return gateway(n, -1) }

// FS is the file system.
func (g Gateway) FS() fs.FS { return g.files }

// Edited is the gateway with another service behind route i.
func (g Gateway) Edited(i int) Gateway { return gateway(g.n, i) }

func gateway(n, edited int) Gateway {
	var b strings.Builder
	b.WriteString("package edge\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: namespace: \"edge\"\n")
	for i := range backends {
		fmt.Fprintf(&b, "mesh: service: %s: {port: http: number: 8080, endpoints: file: %q, grant: edge: from: [\"gateway/edge\"]}\n", Name(i), Name(i))
	}
	b.WriteString("mesh: gateway: edge: {port: http: number: 8080, host: \"*\": route: {\n")
	for i := range n {
		to := i % backends
		if i == edited {
			to = (i + 1) % backends
		}
		fmt.Fprintf(&b, "\tr%04d: {match: path: prefix: \"/app%04d\", to: %s: 100}\n", i, i, Name(to))
	}
	b.WriteString("}}\n")
	return Gateway{n: n, files: fstest.MapFS{
		"mesh.cue":           &fstest.MapFile{Data: []byte("package mesh\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: owner: \"platform\"\n")},
		"cue.mod/module.cue": &fstest.MapFile{Data: []byte("module: \"bench.example/edge\"\nlanguage: version: \"v0.17.0\"\n")},
		"edge/edge.cue":      &fstest.MapFile{Data: []byte(b.String())},
	}}
}
