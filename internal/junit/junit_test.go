package junit_test

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/junit"
)

// What Jenkins' schema allows and demands of the elements that are written.
type element struct {
	may, must, children []string
}

func schema() map[string]element {
	return map[string]element{
		"testsuites": {may: []string{"name", "time", "tests", "failures", "errors"}, children: []string{"testsuite"}},
		"testsuite": {
			may:  []string{"name", "tests", "failures", "errors", "group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"},
			must: []string{"name", "tests", "failures", "errors"}, children: []string{"testsuite", "properties", "testcase", "system-out", "system-err"},
		},
		"properties": {children: []string{"property"}},
		"property":   {may: []string{"name", "value"}, must: []string{"name", "value"}},
		"testcase":   {may: []string{"name", "time", "classname", "group"}, must: []string{"name"}, children: []string{"skipped", "error", "failure", "system-out", "system-err"}},
		"failure":    {may: []string{"type", "message"}},
		"system-out": {},
	}
}

// surefireTime is the schema's form of a duration.
var surefireTime = regexp.MustCompile(`^(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?$`)

// check holds a document against the schema.
func check(t *rapid.T, doc string) {
	d, rules, within := xml.NewDecoder(strings.NewReader(doc)), schema(), []string{}
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%v\n%s", err, doc)
		}
		switch e := tok.(type) {
		case xml.StartElement:
			name := e.Name.Local
			if n := len(within); n > 0 && !slices.Contains(rules[within[n-1]].children, name) {
				t.Fatalf("<%s> within <%s>\n%s", name, within[n-1], doc)
			}
			within = append(within, name)
			has := map[string]bool{}
			for _, a := range e.Attr {
				has[a.Name.Local] = true
				if !slices.Contains(rules[name].may, a.Name.Local) {
					t.Fatalf("<%s> with %s\n%s", name, a.Name.Local, doc)
				}
				if a.Name.Local == "time" && !surefireTime.MatchString(a.Value) {
					t.Fatalf("time %q", a.Value)
				}
			}
			for _, m := range rules[name].must {
				if !has[m] {
					t.Fatalf("<%s> without %s\n%s", name, m, doc)
				}
			}
		case xml.EndElement:
			within = within[:len(within)-1]
		}
	}
}

// Whatever the results are, the document is one that Jenkins takes, with all of them.
func TestDocumentsKeepToTheSchema(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\x1b[31m", "]]>", "<a b=\"c\">&", "::error::x\nsecond", "\x00\ufffe"}))
		one := rapid.Custom(func(t *rapid.T) junit.Case {
			c := junit.Case{Class: text.Draw(t, "class"), Name: text.Draw(t, "name"), Output: text.Draw(t, "output")}
			if rapid.Bool().Draw(t, "fails") {
				c.Failure = &junit.Failure{Type: text.Draw(t, "type"), Message: text.Draw(t, "message"), Body: text.Draw(t, "body")}
			}
			return c
		})
		suite := rapid.Custom(func(t *rapid.T) junit.Suite {
			return junit.Suite{Name: text.Draw(t, "suite"), Version: text.Draw(t, "version"), Cases: rapid.SliceOfN(one, 0, 4).Draw(t, "cases")}
		})
		suites := rapid.SliceOfN(suite, 0, 3).Draw(t, "suites")
		var b strings.Builder
		if err := junit.Write(&b, suites...); err != nil {
			t.Fatal(err)
		}
		check(t, b.String())
		cases, failures := 0, 0
		for _, s := range suites {
			for _, c := range s.Cases {
				if cases++; c.Failure != nil {
					failures++
				}
			}
		}
		if got := strings.Count(b.String(), "<testcase "); got != cases {
			t.Fatalf("%d of %d cases\n%s", got, cases, b.String())
		}
		if got := strings.Count(b.String(), "<failure "); got != failures {
			t.Fatalf("%d of %d failures\n%s", got, failures, b.String())
		}
	})
}
