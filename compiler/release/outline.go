package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// Outline is a Snapshot whose lists are still JSON, so that a reader can leave out those
// that it knows. Whether a list is valid JSON at all shows when it is read.
type Outline struct {
	Class       Class                       `json:"class"`
	TrustDomain string                      `json:"trust_domain"`
	Resources   map[TypeURL]json.RawMessage `json:"resources"`
	Endpoints   json.RawMessage             `json:"endpoints,omitempty"`
}

// Outline reads the snapshot of a class without its lists.
func (r Release) Outline(c Class) (Outline, error) {
	path := SnapshotPath(c)
	if text, ok := r.Artifact(path); ok {
		if o, ok := outline(text, r.ArtifactDigest(path)); ok {
			return o, nil
		}
	}
	var o Outline
	err := r.snapshot(c, &o)
	return o, err
}

// outline reads a snapshot in canonical form without looking into its lists; false if it
// is not in that form. Each list is replaced by a text that begins with mark, which the
// snapshot does not have, and what is left is read: so it is seen whether the lists were
// where lists are. What begins with a bracket in another form and does not end where the
// list does is no JSON, and whoever reads it finds that.
func outline(snapshot []byte, mark string) (Outline, bool) {
	lists := map[string]json.RawMessage{}
	var frame []byte
	rest := snapshot
	for {
		at := bytes.Index(rest, []byte("\": [\n"))
		if at < 0 {
			break
		}
		line := rest[bytes.LastIndexByte(rest[:at], '\n')+1 : at]
		indent := line[:len(line)-len(bytes.TrimLeft(line, " "))]
		from := at + len("\": ")
		size := bytes.Index(rest[from:], fmt.Appendf(nil, "\n%s]", indent))
		if size < 0 {
			return Outline{}, false
		}
		to := from + size + len("\n]") + len(indent)
		stands := strconv.Quote(mark + strconv.Itoa(len(lists)))
		lists[stands] = rest[from:to:to]
		frame = append(append(frame, rest[:from]...), stands...)
		rest = rest[to:]
	}
	var o Outline
	if json.Unmarshal(append(frame, rest...), &o) != nil {
		return Outline{}, false
	}
	found := 0
	list := func(raw json.RawMessage) json.RawMessage {
		if l, ok := lists[string(raw)]; ok {
			found++
			return l
		}
		return raw
	}
	for url, raw := range o.Resources {
		o.Resources[url] = list(raw)
	}
	o.Endpoints = list(o.Endpoints)
	return o, found == len(lists)
}
