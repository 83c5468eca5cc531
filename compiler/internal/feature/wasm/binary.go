package wasm

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// mistake is what can be seen of a file that no proxy would run, and how to get rid of it; "" for nothing. What the
// functions of a module hold, and whether their types fit, is Envoy's to see.
func mistake(file []byte) (why, fix string) {
	const build = "build it for WebAssembly by an SDK of Proxy-Wasm"
	sections, ok := bytes.CutPrefix(file, []byte("\x00asm\x01\x00\x00\x00"))
	if !ok {
		return "the file is no WebAssembly", build
	}
	m := binary{rest: sections}
	imports, exports := m.names()
	if m.broken {
		return "the file ends too early or is damaged", build
	}
	if !slices.ContainsFunc(abis(), func(abi string) bool { return slices.Contains(exports, abi) }) {
		return "it is no module of Proxy-Wasm: it exports none of " + strings.Join(abis(), ", "), build
	}
	if !slices.Contains(exports, "malloc") && !slices.Contains(exports, "proxy_on_memory_allocate") {
		return "nobody could hand it a text: it exports neither malloc nor proxy_on_memory_allocate", build
	}
	if !slices.Contains(exports, onRequest) && !slices.Contains(exports, onResponse) {
		return "it does nothing: it exports neither " + onRequest + " nor " + onResponse, "let it look at headers; bodies are seen by `process`"
	}
	for _, i := range imports {
		if !slices.Contains(hosts(), i.module) {
			return fmt.Sprintf("it imports %s of %q, which no proxy has", i.name, i.module), build
		}
	}
	return "", ""
}

const onRequest, onResponse = "proxy_on_request_headers", "proxy_on_response_headers"

// abis are the functions by which a module says which ABI it was made for.
func abis() []string {
	return []string{"proxy_abi_version_0_1_0", "proxy_abi_version_0_2_0", "proxy_abi_version_0_2_1"}
}

// hosts are the modules from which one may import.
func hosts() []string { return []string{"env", "wasi_snapshot_preview1", "wasi_unstable"} }

// imported is a function that a module wants.
type imported struct{ module, name string }

// binary is what is left to read of a module. What reads past the end is broken, and gives nothing.
type binary struct {
	rest   []byte
	broken bool
}

// names are the imports and exports of a module.
func (b *binary) names() (imports []imported, exports []string) {
	const importSection, exportSection = 2, 7
	for len(b.rest) > 0 && !b.broken {
		id, of := b.byte(), binary{}
		of.rest = b.take(b.number())
		switch id {
		case importSection:
			for n := of.number(); n > 0 && !of.broken; n-- {
				i := imported{of.text(), of.text()}
				of.imported()
				imports = append(imports, i)
			}
		case exportSection:
			for n := of.number(); n > 0 && !of.broken; n-- {
				exports = append(exports, of.text())
				of.byte()
				of.number()
			}
		}
		b.broken = b.broken || of.broken
	}
	return imports, exports
}

// imported passes what an import is: a function's type, a table, a memory or a global.
func (b *binary) imported() {
	const function, table, memory = 0, 1, 2
	switch b.byte() {
	case function:
		b.number()
	case table:
		b.byte()
		b.limits()
	case memory:
		b.limits()
	default: // a global: its type, and whether it changes
		b.byte()
		b.byte()
	}
}

func (b *binary) limits() {
	const most = 1
	bounded := b.byte()&most != 0
	if b.number(); bounded {
		b.number()
	}
}

func (b *binary) text() string { return string(b.take(b.number())) }

func (b *binary) byte() byte {
	if part := b.take(1); len(part) == 1 {
		return part[0]
	}
	return 0
}

// number reads LEB128 of 32 bits.
func (b *binary) number() int {
	n := 0
	for shift := 0; shift < 35; shift += 7 {
		c := b.byte()
		if n |= int(c&0x7f) << shift; c < 0x80 {
			return n
		}
	}
	b.broken = true
	return 0
}

func (b *binary) take(n int) []byte {
	if b.broken || n > len(b.rest) {
		b.broken, b.rest = true, nil
		return nil
	}
	out := b.rest[:n]
	b.rest = b.rest[n:]
	return out
}
