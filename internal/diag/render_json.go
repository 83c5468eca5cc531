package diag

import (
	"bytes"
	"encoding/json"
	"io"
	"unicode/utf8"
)

// JSONVersion is the "format" field of the JSON form. Fields are added within a
// version, never renamed or removed.
const JSONVersion = "meshc.dev/diagnostics/v1"

type jsonReport struct {
	Format      string     `json:"format"`
	Tool        jsonTool   `json:"tool"`
	Counts      jsonCounts `json:"counts"`
	Diagnostics List       `json:"diagnostics"`
}

type jsonTool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type jsonCounts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
}

func renderJSON(w io.Writer, l List, o Options) error {
	errs, warns := l.Counts()
	if l == nil {
		l = List{} // an empty array, never null
	}
	return writeJSON(w, jsonReport{
		Format:      JSONVersion,
		Tool:        jsonTool{Name: toolName, Version: o.ToolVersion},
		Counts:      jsonCounts{Errors: errs, Warnings: warns, Notes: len(l) - errs - warns},
		Diagnostics: l,
	})
}

const toolName = "meshc"

// writeJSON writes v indented. encoding/json escapes ASCII control characters;
// those above (C1, overrides of the reading order) are escaped here, so that a
// terminal that shows the report is safe too. A raw control character can only
// be inside a string at that point, except the line feeds of the indentation.
func writeJSON(w io.Writer, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for i, size := 0, 0; i < len(raw); i += size {
		var r rune
		r, size = utf8.DecodeRune(raw[i:])
		if r != '\n' && unsafe(r) {
			b.WriteString(unicodeEscape(r))
			continue
		}
		b.Write(raw[i : i+size])
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}
