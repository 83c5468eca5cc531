package diag

import (
	"encoding/json"
	"io"

	"meshc.dev/meshc/internal/printer"
)

// JSONVersion is the "format" field of the JSON form. Fields are added within a
// version, never renamed or removed.
const JSONVersion = "meshc.dev/findings/v1"

// Report is the JSON form of a List.
type Report struct {
	Format string `json:"format"`
	Tool   Tool   `json:"tool"`
	Counts Counts `json:"counts"`
	// Findings are all of the list, in its order.
	Findings List `json:"findings"`
}

// Tool is what found something.
type Tool struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

// Counts says how many findings there are of each severity.
type Counts struct {
	Errors   int `json:"errors"`
	Warnings int `json:"warnings"`
	Notes    int `json:"notes"`
}

func renderJSON(w io.Writer, l List, o Options) error {
	errs, warns := l.Counts()
	if l == nil {
		l = List{} // an empty array, never null
	}
	return writeJSON(w, Report{
		Format:   JSONVersion,
		Tool:     Tool{Name: toolName, Version: o.ToolVersion},
		Counts:   Counts{Errors: errs, Warnings: warns, Notes: len(l) - errs - warns},
		Findings: l,
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
