// Package junit writes results in the XML form of JUnit that CI systems read.
//
// In: suites of cases, with text from anywhere. Out: one document that the schema of
// Jenkins (junit-10.xsd) takes, the strictest of those in use: it knows no file and line, which
// therefore stand in names and bodies.
//
// What always holds: the text is escaped so that it cannot act on a terminal, a document
// has at least one case, because several CI systems take one without for a broken one,
// and it says nothing of time, so that the same results are the same bytes.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"

	"meshc.dev/meshc/internal/printer"
)

// Suite is a group of cases.
type Suite struct {
	Name    string
	Version string // of the tool, "" for none
	Cases   []Case
}

// Case is one result. It failed if Failure is not nil.
type Case struct {
	Class, Name string
	Failure     *Failure
	Output      string // what it printed, or says although it passed
}

// Failure says why a case failed: its kind, in a sentence, and at length.
type Failure struct {
	Type, Message, Body string
}

type document struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Time     string   `xml:"time,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Suites   []suite  `xml:"testsuite"`
}

type suite struct {
	Name     string      `xml:"name,attr"`
	Time     string      `xml:"time,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Props    *properties `xml:"properties"`
	Cases    []testcase  `xml:"testcase"`
}

type properties struct {
	List []property `xml:"property"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testcase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Time    string   `xml:"time,attr"`
	Failure *failure `xml:"failure,omitempty"`
	Output  string   `xml:"system-out,omitempty"`
}

type failure struct {
	Type    string `xml:"type,attr"`
	Message string `xml:"message,attr"`
	Body    string `xml:",chardata"`
}

// tool is the name of the document.
const tool = "meshc"

// noTime stands where the form demands a duration.
const noTime = "0"

// Write writes a document. An error is of w alone.
func Write(w io.Writer, suites ...Suite) error {
	doc := document{Name: tool, Time: noTime}
	for _, s := range suites {
		out := suite{Name: printer.Escape(s.Name), Time: noTime, Tests: len(s.Cases)}
		if s.Version != "" {
			out.Props = &properties{[]property{{Name: "version", Value: printer.Escape(s.Version)}}}
		}
		for _, c := range s.Cases {
			if c.Failure != nil {
				out.Failures++
			}
			out.Cases = append(out.Cases, caseOf(c))
		}
		doc.Tests, doc.Failures, doc.Suites = doc.Tests+out.Tests, doc.Failures+out.Failures, append(doc.Suites, out)
	}
	raw, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding results: %w", err)
	}
	_, err = io.WriteString(w, xml.Header+string(raw)+"\n")
	return err
}

func caseOf(c Case) testcase {
	out := testcase{Class: printer.Escape(c.Class), Name: printer.Escape(c.Name), Time: noTime, Output: printer.Lines(c.Output)}
	if f := c.Failure; f != nil {
		out.Failure = &failure{Type: printer.Escape(f.Type), Message: printer.Escape(f.Message), Body: printer.Lines(f.Body)}
	}
	return out
}
