package compiler_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/internal/diag"
)

// A module of a gateway stands in each of its routes, so that what a service may have is too much there.
func TestModulesOfGatewaysAreShort(t *testing.T) {
	const head = "import \"meshc.dev/intent\"\nmesh: intent.#Mesh\n"
	module := make([]byte, 300<<10) // longer than any route may have; it is none at all, which is told of the service's
	sum := sha256.Sum256(module)
	run := `wasm: big: {owner: "app", file: "big.wasm", digest: "` + hex.EncodeToString(sum[:]) + `", onFailure: "admit"}`
	_, ds := compiler.Load(fstest.MapFS{
		"mesh.cue": {Data: []byte("package mesh\n" + head)},
		"app/app.cue": {Data: []byte("package app\n" + head + `mesh: namespace: "app"
mesh: service: a: {port: http: number: 80, grant: all: from: ["gateway/edge"], ` + run + `}
mesh: gateway: edge: {port: http: number: 80, host: "a.test": {route: all: to: a: 100, ` + run + `}}
`)},
		"app/big.wasm": {Data: module},
	}, compiler.Options{At: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)})
	var told []string
	for _, d := range ds {
		if d.Code == diag.CodeWasm {
			told = append(told, d.Text)
		}
	}
	if got := strings.Join(told, "\n"); len(told) != 2 || !strings.Contains(got, "the file is no WebAssembly") || !strings.Contains(got, "307200 bytes long, of 262144 at most at a gateway") {
		t.Errorf("told is %s", got)
	}
}
