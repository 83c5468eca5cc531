package envoy

import (
	"bytes"
	"fmt"
	"sync"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"meshc.dev/meshc/internal/canon"
)

// part is a message of which a resource is put together: what it is, in binary, and its
// canonical JSON.
type part struct {
	kind       protoreflect.FullName
	form, text []byte
}

// parts encodes the parts of a resource. Those that the resource had in an earlier run
// are not encoded again: most changes touch one route of many.
type parts struct {
	before, now []part
	forms       bool // needed by a later run
	err         error
}

func partsOf(n *entry, forms bool) *parts {
	p := &parts{forms: forms}
	if n.was != nil {
		p.before = n.was.parts
	}
	return p
}

// text is the canonical JSON of a part.
func (p *parts) text(m proto.Message) []byte {
	kind, form := m.ProtoReflect().Descriptor().FullName(), []byte(nil)
	if p.forms {
		var err error
		if form, err = marshal(m); err != nil {
			return p.failed(err)
		}
		// Parts stand where they stood, unless some before them came or went.
		for i := range p.before {
			if old := p.before[(len(p.now)+i)%len(p.before)]; old.kind == kind && bytes.Equal(old.form, form) {
				p.now = append(p.now, old)
				return old.text
			}
		}
	}
	text, err := canon.Proto(m)
	if err != nil {
		return p.failed(err)
	}
	if p.forms {
		p.now = append(p.now, part{kind, form, text})
	}
	return text
}

func (p *parts) failed(err error) []byte {
	if p.err == nil {
		p.err = err
	}
	return []byte("{}\n")
}

// refusalTexts are the texts of refusals.
//
//nolint:gochecknoglobals // a constant that Go cannot express
var refusalTexts = sync.OnceValue(func() [][]byte {
	rs := refusals()
	out := make([][]byte, 0, len(rs))
	for _, r := range rs {
		text, err := canon.Proto(r)
		if err != nil {
			panic(fmt.Sprintf("envoy: encoding a refusal: %v", err))
		}
		out = append(out, text)
	}
	return out
})

// encode is the canonical JSON of a resource, with the chains of its managers.
func encode(m proto.Message) ([]byte, error) {
	b, err := canon.Proto(m)
	if err != nil {
		return nil, fmt.Errorf("encoding a resource: %w", err)
	}
	if _, ok := m.(*listenerv3.Listener); ok {
		b = withChains(b)
	}
	return b, nil
}

// standIn is what a manager has in place of its chain until its listener is text. Chains
// are most of a listener, and the same in all managers of a side.
func standIn(s side) []*hcmv3.HttpFilter {
	return []*hcmv3.HttpFilter{{Name: "meshc.chain." + string(s)}}
}

// withChains puts the chains in the place of their stand-ins. A string of a canonical text
// has its quotes escaped, so what looks like a stand-in is one.
func withChains(listener []byte) []byte {
	for s, filters := range chainTexts() {
		name := []byte(`"name": "` + standIn(s)[0].GetName() + `"`)
		var out []byte
		for {
			at := bytes.Index(listener, name)
			if at < 0 {
				break
			}
			line := bytes.LastIndexByte(listener[:at], '\n') + 1
			indent := append([]byte{'\n'}, listener[line:at-2]...)
			out = append(out, listener[:line-len("{\n")]...)
			for i, f := range filters {
				if i > 0 {
					out = append(append(out, ','), indent...)
				}
				out = append(out, bytes.ReplaceAll(f, []byte("\n"), indent)...)
			}
			listener = listener[at+len(name)+len(indent)+len("}"):]
		}
		listener = append(out, listener...)
	}
	return listener
}

// chainTexts are the filters of each side's chain, each without the final newline.
//
//nolint:gochecknoglobals // a constant that Go cannot express
var chainTexts = sync.OnceValue(func() map[side][][]byte {
	out := map[side][][]byte{}
	for _, s := range []side{outbound, inbound} {
		for _, f := range chain(s) {
			text, err := canon.Proto(f)
			if err != nil {
				panic(fmt.Sprintf("envoy: encoding a filter: %v", err))
			}
			out[s] = append(out[s], bytes.TrimSuffix(text, []byte("\n")))
		}
	}
	return out
})
