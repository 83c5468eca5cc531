package diag

import (
	"encoding/json"
	"io"

	"meshc.dev/meshc/internal/printer"
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

// writeJSON writes v indented, with everything escaped that could act on a terminal
// that shows the report.
func writeJSON(w io.Writer, v any) error {
	raw, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(append(printer.JSON(raw), '\n'))
	return err
}
