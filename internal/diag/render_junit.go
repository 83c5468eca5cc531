package diag

import (
	"io"

	"meshc.dev/meshc/internal/junit"
)

// renderJUnit gives one test case per finding: an error fails, a warning or a
// note passes and says so in its output. No finding at all is one case that passes.
func renderJUnit(w io.Writer, l List, o Options) error {
	s := junit.Suite{Name: toolName, Version: o.ToolVersion}
	for _, d := range l {
		s.Cases = append(s.Cases, junitOne(d))
	}
	if len(l) == 0 {
		s.Cases = []junit.Case{{Class: toolName, Name: "no problems"}}
	}
	return junit.Write(w, s)
}

func junitOne(d Diagnostic) junit.Case {
	c := junit.Case{Class: toolName + "." + string(d.Code), Name: d.Text}
	if d.Pos.File != "" {
		c.Name = d.Pos.String() + ": " + c.Name
	}
	if d.IsError() {
		c.Failure = &junit.Failure{Type: string(d.Code), Message: d.Text, Body: textOf(d)}
	} else {
		c.Output = textOf(d)
	}
	return c
}
