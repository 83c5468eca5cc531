package intent

import (
	"testing"

	"meshc.dev/meshc/compiler/internal/source"
)

// Positions are those of labels; a scalar that an environment overrides is where
// the value in force was written.
func TestPositions(t *testing.T) {
	tree := source.Tree{Files: map[string][]byte{
		"mesh.cue": []byte("package root\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: environment: prod: {}\n"),
		"s/a.cue": []byte("package s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: service: web: {\n\tport: http: number: 80\n\troute: r: {\n\t\ttimeout: *\"5s\" | _\n\t\tto: {v1: 100}\n\t}\n" +
			"\tgrant: g: {from: [\"a\", \"b\"]}\n}\n"),
		"environments/prod/s/a.cue": []byte("package s\n\nimport \"meshc.dev/intent\"\n\nmesh: intent.#Mesh\nmesh: service: web: route: r: timeout: \"9s\"\n"),
	}}
	in, l := Load(tree, Options{})
	if len(l) > 0 || len(in.Packages) != 2 {
		t.Fatal(in, l)
	}
	web := in.Packages[1].Mesh.Field("service").Field("web")
	for want, n := range map[string]Node{
		"s/a.cue:6:16":                   web,
		"s/a.cue:7:14":                   web.Field("port").Field("http").Field("number"),
		"s/a.cue:8:9":                    web.Field("route").Field("r"),
		"environments/prod/s/a.cue:6:31": web.Field("route").Field("r").Field("timeout"),
		"s/a.cue:10:8":                   web.Field("route").Field("r").Field("to").Field("v1"),
		"s/a.cue:12:25":                  web.Field("grant").Field("g").Field("from").List()[1],
	} {
		if n.Pos().String() != want {
			t.Errorf("%s is at %v, want %s", n.Path(), n.Pos(), want)
		}
	}
	if v := web.Field("route").Field("r").Field("timeout").Str(); v != "9s" {
		t.Errorf("timeout %q", v)
	}
}
