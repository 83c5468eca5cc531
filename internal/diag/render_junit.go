package diag

import (
	"encoding/xml"
	"io"

	"meshc.dev/meshc/internal/printer"
)

type junitSuites struct {
	XMLName  xml.Name   `xml:"testsuites"`
	Name     string     `xml:"name,attr"`
	Tests    int        `xml:"tests,attr"`
	Failures int        `xml:"failures,attr"`
	Suite    junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Props    []junitProp `xml:"properties>property,omitempty"`
	Cases    []junitCase `xml:"testcase"`
}

type junitProp struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr,omitempty"`
	Line    int           `xml:"line,attr,omitempty"`
	Failure *junitFailure `xml:"failure,omitempty"`
	Out     string        `xml:"system-out,omitempty"`
}

type junitFailure struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Body    string `xml:",chardata"`
}

// renderJUnit gives one test case per finding: an error fails, a warning or a
// note passes and says so in its output. No finding at all is one case that
// passes, because several CI systems take a report without cases for a broken one.
func renderJUnit(w io.Writer, l List, o Options) error {
	errs, _ := l.Counts()
	s := junitSuite{Name: toolName, Failures: errs}
	if o.ToolVersion != "" {
		s.Props = []junitProp{{Name: "version", Value: printer.Escape(o.ToolVersion)}}
	}
	for _, d := range l {
		s.Cases = append(s.Cases, junitOne(d))
	}
	if len(l) == 0 {
		s.Cases = []junitCase{{Class: toolName, Name: "no problems"}}
	}
	s.Tests = len(s.Cases)
	raw, err := xml.MarshalIndent(junitSuites{Name: toolName, Tests: s.Tests, Failures: errs, Suite: s}, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(raw)+"\n")
	return err
}

func junitOne(d Diagnostic) junitCase {
	body := textOf(d)
	c := junitCase{
		Class: toolName + "." + printer.Escape(string(d.Code)),
		Name:  printer.Escape(d.Pos.String() + ": " + d.Text),
		File:  printer.Escape(d.Pos.File),
		Line:  d.Pos.Line,
	}
	if d.IsError() {
		c.Failure = &junitFailure{Type: printer.Escape(string(d.Code)), Message: printer.Escape(d.Text), Body: body}
	} else {
		c.Out = body
	}
	return c
}
