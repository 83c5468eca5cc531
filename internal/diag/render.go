package diag

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Format names an output form of a List. All forms carry the same findings.
type Format string

// The formats.
const (
	Text   Format = "text"   // for people; at most Options.Max findings are printed, the rest is counted
	JSON   Format = "json"   // versioned: see JSONVersion
	SARIF  Format = "sarif"  // SARIF 2.1.0, for code scanning
	JUnit  Format = "junit"  // one test case per finding, errors are failures
	GitHub Format = "github" // workflow commands that annotate lines
)

// Formats lists all formats in the order of the documentation.
func Formats() []Format { return []Format{Text, JSON, SARIF, JUnit, GitHub} }

// ParseFormat reads a format's name as written on a command line. An unknown
// name is an error: there is no default to fall back to.
func ParseFormat(s string) (Format, error) {
	if f := Format(s); slices.Contains(Formats(), f) {
		return f, nil
	}
	return "", unknownFormat(Format(s))
}

func unknownFormat(f Format) error {
	names := make([]string, 0, len(Formats()))
	for _, k := range Formats() {
		names = append(names, string(k))
	}
	return fmt.Errorf("unknown format %q: use one of %s", f, strings.Join(names, ", "))
}

// DefaultMax is how many findings the text form prints if Options.Max is 0.
const DefaultMax = 20

// Options adjusts rendering.
type Options struct {
	// Color puts the severity in colour (text only).
	Color bool
	// Max is the number of findings that the text form prints; 0 means
	// DefaultMax, a negative number all. The other forms carry all of them.
	Max int
	// Anywhere is the file, relative as all positions are, at which a finding without a
	// place is shown where a form demands one (SARIF).
	Anywhere string
	// ToolVersion is the version of meshc that the report names.
	ToolVersion string
}

// Render writes l to w, sorted and without repeats. Text from users' files is
// escaped so that it cannot act as a control sequence, a workflow command or
// markup. An unknown format is an error and writes nothing.
func Render(w io.Writer, f Format, l List, o Options) error {
	l = l.Sorted()
	for i := range l {
		if l[i].Severity == "" {
			l[i].Severity = Error
		}
	}
	var err error
	switch f {
	case Text:
		err = renderText(w, l, o)
	case JSON:
		err = renderJSON(w, l, o)
	case SARIF:
		err = renderSARIF(w, l, o)
	case JUnit:
		err = renderJUnit(w, l, o)
	case GitHub:
		err = renderGitHub(w, l)
	default:
		return unknownFormat(f)
	}
	if err != nil {
		return fmt.Errorf("writing problems as %s: %w", f, err)
	}
	return nil
}
