package diag_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// finding is what every format must carry of a problem.
type finding struct {
	Code, Severity, File string
	Line, Col            int
	Text                 string // escaped
}

func findings(l diag.List) []finding {
	var out []finding
	for _, d := range l.Sorted() {
		sev := d.Severity
		if sev == "" {
			sev = diag.Error
		}
		p := d.Pos
		if p.File == "" || p.Line == 0 {
			p.Line, p.Col = 0, 0
		}
		out = append(out, finding{string(d.Code), string(sev), p.File, p.Line, p.Col, printer.Escape(d.Text)})
	}
	return out
}

func render(t interface{ Fatalf(string, ...any) }, f diag.Format, l diag.List, o diag.Options) string {
	var b bytes.Buffer
	if err := diag.Render(&b, f, l, o); err != nil {
		t.Fatalf("rendering as %s: %v", f, err)
	}
	return b.String()
}

// nasty holds what users could write to act on whoever shows the report.
var nasty = []string{"::error::x", "##[error]x", "\n::set-output name=a::b", "\r\n", "\x1b[31m", "\u009b31m", "\u202eevil",
	"%0A", "%", "](http://example.org)", "[a", "<b>&\"'", "\u2028", "\t", "]]>", "plain words", "{0}", `\n`, "é", "世界", "\x7f", "\x00"}

func drawList(t *rapid.T) diag.List {
	word := rapid.OneOf(rapid.SampledFrom(nasty), rapid.StringMatching(`[a-z "%:,=]{0,8}`), rapid.String())
	text := rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(word, 1, 4).Draw(t, "words"), "") })
	pos := rapid.Custom(func(t *rapid.T) diag.Pos {
		p := diag.Pos{File: rapid.SampledFrom([]string{"", "mesh.cue", "a/b c.cue", "a,b=%.cue", "größe.cue"}).Draw(t, "file")}
		if p.File != "" {
			p.Line, p.Col = rapid.IntRange(0, 3).Draw(t, "line"), rapid.IntRange(0, 3).Draw(t, "col")
		}
		if p.Line == 0 {
			p.Col = 0
		}
		return p
	})
	one := rapid.Custom(func(t *rapid.T) diag.Diagnostic {
		d := diag.Diagnostic{
			Code:     diag.Code(rapid.StringMatching(`MESH0[0-9]{3}`).Draw(t, "code")),
			Severity: rapid.SampledFrom([]diag.Severity{"", diag.Error, diag.Warning, diag.Note}).Draw(t, "severity"),
			Pos:      pos.Draw(t, "pos"),
			Text:     text.Draw(t, "text"),
		}
		if rapid.Bool().Draw(t, "hasFix") {
			d.Fix = text.Draw(t, "fix")
		}
		for range rapid.IntRange(0, 2).Draw(t, "related") {
			d = d.WithRelated(pos.Draw(t, "relatedPos"), "%s", text.Draw(t, "relatedText"))
		}
		return d
	})
	return rapid.SliceOfN(one, 0, 30).Draw(t, "list")
}

// Every format carries the same finding set, and none lets a user's text act on
// a terminal or on a CI runner.
func TestEveryFormatCarriesTheSameFindings(t *testing.T) {
	readers := map[diag.Format]func(string) ([]finding, error){
		diag.Text: readText, diag.JSON: readJSON, diag.SARIF: readSARIF, diag.JUnit: readJUnit, diag.GitHub: readGitHub,
	}
	rapid.Check(t, func(t *rapid.T) {
		l := drawList(t)
		want := findings(l)
		for _, f := range diag.Formats() {
			out := render(t, f, l, diag.Options{Max: -1, ToolVersion: "v1"})
			got, err := readers[f](out)
			if err != nil {
				t.Fatalf("%s: reading back: %v\n%s", f, err, out)
			}
			sortFindings(got)
			sorted := slices.Clone(want)
			sortFindings(sorted)
			if f == diag.GitHub { // breaks up what a runner could take for a command
				for i := range sorted {
					sorted[i].Text = strings.NewReplacer("::", `:\u003a`, "##[", `#\u0023[`).Replace(sorted[i].Text)
				}
				sortFindings(sorted)
			}
			if f == diag.Text {
				for i := range sorted {
					sorted[i].Text = strings.ReplaceAll(sorted[i].Text, "##[", `#\u0023[`)
				}
				sortFindings(sorted)
			}
			if f == diag.SARIF { // code scanning shows nothing that has no line
				for i := range sorted {
					if sorted[i].File != "" && sorted[i].Line == 0 {
						sorted[i].Line = 1
					}
				}
				sortFindings(sorted)
			}
			if d := cmp.Diff(sorted, got); d != "" {
				t.Fatalf("%s: findings differ (-want +got):\n%s\n%s", f, d, out)
			}
			checkHarmless(t, f, out)
		}
	})
}

func sortFindings(fs []finding) {
	slices.SortFunc(fs, func(a, b finding) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

func checkHarmless(t *rapid.T, f diag.Format, out string) {
	for _, r := range out {
		if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			t.Fatalf("%s: control character %U in the output", f, r)
		}
	}
	command := regexp.MustCompile(`^::(error|warning|notice) [^:]*::`)
	for line := range strings.Lines(out) {
		if f != diag.Text && f != diag.GitHub {
			continue
		}
		if strings.Contains(line, "##[") {
			t.Fatalf("%s: runner command inside %q", f, line)
		}
		if strings.HasPrefix(strings.TrimLeft(line, " "), "::") && (f == diag.Text || !command.MatchString(line)) {
			t.Fatalf("%s: runner command %q", f, line)
		}
	}
}

func parsePos(s string) (file string, line, col int) {
	m := regexp.MustCompile(`^(.*?)(?::(\d+))?(?::(\d+))?$`).FindStringSubmatch(s)
	if m[1] == "-" {
		return "", 0, 0
	}
	line, _ = strconv.Atoi(m[2])
	col, _ = strconv.Atoi(m[3])
	return m[1], line, col
}

func readText(s string) (out []finding, err error) {
	re := regexp.MustCompile(`^(?:([^:]*(?::\d+)*): )?(error|warning|note) (MESH\d{4}): (.*)$`)
	for line := range strings.Lines(s) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "    ") {
			continue
		}
		m := re.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("line %q is no finding", line)
		}
		f := finding{Code: m[3], Severity: m[2], Text: m[4]}
		f.File, f.Line, f.Col = parsePos(m[1])
		out = append(out, f)
	}
	return out, nil
}

func readJSON(s string) (out []finding, err error) {
	var r struct {
		Format   string
		Counts   struct{ Errors, Warnings, Notes int }
		Findings diag.List
	}
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		return nil, err
	}
	if n := r.Counts.Errors + r.Counts.Warnings + r.Counts.Notes; r.Format != diag.JSONVersion || n != len(r.Findings) || r.Findings == nil {
		return nil, fmt.Errorf("format %q, %d counted of %d", r.Format, n, len(r.Findings))
	}
	return findings(r.Findings), nil
}

func readSARIF(s string) (out []finding, err error) {
	var r struct {
		Version string
		Runs    []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct {
				RuleID     string
				RuleIndex  int
				Level      string
				Message    struct{ Text string }
				Properties struct{ Fix string }
				Locations  []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           *struct{ StartLine, StartColumn int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(s), &r); err != nil {
		return nil, err
	}
	if r.Version != "2.1.0" || len(r.Runs) != 1 || r.Runs[0].Results == nil {
		return nil, fmt.Errorf("not one run of SARIF 2.1.0")
	}
	for _, x := range r.Runs[0].Results {
		if r.Runs[0].Tool.Driver.Rules[x.RuleIndex].ID != x.RuleID {
			return nil, fmt.Errorf("rule index %d is not %s", x.RuleIndex, x.RuleID)
		}
		text := sarifPlain(x.Message.Text, "\nfix: "+x.Properties.Fix)
		f := finding{Code: x.RuleID, Severity: x.Level, Text: printer.Escape(text)}
		if len(x.Locations) > 0 {
			p := x.Locations[0].PhysicalLocation
			if f.File, err = url.PathUnescape(p.ArtifactLocation.URI); err != nil {
				return nil, err
			}
			f.File = strings.TrimPrefix(f.File, "./")
			if p.Region != nil {
				if p.Region.StartLine < 1 {
					return nil, fmt.Errorf("startLine %d", p.Region.StartLine)
				}
				f.Line, f.Col = p.Region.StartLine, p.Region.StartColumn
			}
		}
		out = append(out, f)
	}
	return out, nil
}

// sarifPlain undoes the escaping of links and takes the fix off.
func sarifPlain(text, fix string) string {
	plain := strings.NewReplacer(`\[`, "[", `\]`, "]")
	if fix == "\nfix: " {
		fix = ""
	}
	for _, tail := range []string{fix, strings.NewReplacer("[", `\[`, "]", `\]`).Replace(fix)} {
		if rest, ok := strings.CutSuffix(text, tail); ok {
			if strings.Contains(plain.Replace(rest), "](") {
				return plain.Replace(rest)
			}
			return rest
		}
	}
	return text
}

func readJUnit(s string) (out []finding, err error) {
	var r struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Suite    struct {
			Cases []struct {
				Class   string `xml:"classname,attr"`
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Body    string `xml:",chardata"`
				} `xml:"failure"`
				Out string `xml:"system-out"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal([]byte(s), &r); err != nil {
		return nil, err
	}
	failures := 0
	for _, c := range r.Suite.Cases {
		if c.Name == "no problems" {
			continue
		}
		code := strings.TrimPrefix(c.Class, "meshc.")
		f := finding{Code: code}
		body := c.Out
		if c.Failure != nil {
			failures++
			body = c.Failure.Body
		}
		m := regexp.MustCompile(`(?:^|: )(error|warning|note) ` + code + `: `).FindStringSubmatch(body)
		if m == nil {
			return nil, fmt.Errorf("no severity in %q", body)
		}
		f.Severity = m[1]
		f.Text = c.Name
		if !strings.HasPrefix(body, m[1]) {
			var pos string
			pos, f.Text, _ = strings.Cut(c.Name, ": ")
			f.File, f.Line, f.Col = parsePos(pos)
		}
		out = append(out, f)
	}
	if failures != r.Failures || r.Tests != len(r.Suite.Cases) || r.Tests == 0 {
		return nil, fmt.Errorf("%d tests, %d failures noted; %d and %d found", r.Tests, r.Failures, len(r.Suite.Cases), failures)
	}
	return out, nil
}

func readGitHub(s string) (out []finding, err error) {
	levels := map[string]string{"error": "error", "warning": "warning", "notice": "note"}
	props := strings.NewReplacer("%3A", ":", "%2C", ",", "%25", "%")
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "::") {
			continue
		}
		head, data, _ := strings.Cut(strings.TrimSuffix(line[2:], "\n"), "::")
		level, list, _ := strings.Cut(head, " ")
		f := finding{Severity: levels[level]}
		for _, kv := range strings.Split(list, ",") {
			k, v, _ := strings.Cut(kv, "=")
			v = props.Replace(v)
			switch k {
			case "file":
				f.File = v
			case "line":
				f.Line, _ = strconv.Atoi(v)
			case "col":
				f.Col, _ = strconv.Atoi(v)
			case "title":
				f.Code = v
			}
		}
		f.Text = data
		out = append(out, f)
	}
	return githubTexts(out)
}

// githubTexts keeps the message's own part: related places and the fix follow
// it as further lines, so only a prefix can be compared; it is cut at the first
// marker that the renderer adds.
func githubTexts(fs []finding) ([]finding, error) {
	for i := range fs {
		lines := strings.Split(fs[i].Text, "%0A")
		end := len(lines)
		for j := 1; j < len(lines); j++ {
			if strings.HasPrefix(lines[j], "fix: ") || regexp.MustCompile(`^(-|[^:]*\.cue(:\d+){0,2}): `).MatchString(lines[j]) {
				end = j
				break
			}
		}
		fs[i].Text = strings.ReplaceAll(strings.Join(lines[:end], `\n`), "%25", "%")
	}
	return fs, nil
}

// What GitHub's code scanning demands of a report beside SARIF's own schema: a rule says
// in three ways what it is, and a result has a file and a line.
func TestSARIFIsTakenByCodeScanning(t *testing.T) {
	l := diag.List{diag.New("MESH0201", diag.Pos{File: "a.cue", Line: 3, Col: 2}, "x"), diag.Warn("MESH0001", diag.Pos{}, "nowhere"), diag.New("house-rule", diag.Pos{File: "b.cue"}, "of a policy")}
	var r struct {
		Runs []struct {
			Tool struct {
				Driver struct {
					Rules []struct {
						ID                                      string
						ShortDescription, FullDescription, Help struct{ Text string }
						DefaultConfiguration                    struct{ Level string }
					}
				}
			}
			Results []struct {
				RuleID    string
				Locations []struct {
					PhysicalLocation struct {
						ArtifactLocation struct{ URI string }
						Region           struct{ StartLine int }
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(render(t, diag.SARIF, l, diag.Options{Anywhere: "intent/mesh.cue"})), &r); err != nil {
		t.Fatal(err)
	}
	for _, rule := range r.Runs[0].Tool.Driver.Rules {
		if rule.ShortDescription.Text == "" || rule.FullDescription.Text == "" || rule.Help.Text == "" || rule.DefaultConfiguration.Level == "" {
			t.Errorf("rule %s says too little: %+v", rule.ID, rule)
		}
	}
	places := map[string]string{}
	for _, x := range r.Runs[0].Results {
		if len(x.Locations) != 1 {
			t.Fatalf("%s is at %d places", x.RuleID, len(x.Locations))
		}
		p := x.Locations[0].PhysicalLocation
		places[x.RuleID] = fmt.Sprintf("%s:%d", p.ArtifactLocation.URI, p.Region.StartLine)
	}
	want := map[string]string{"MESH0201": "a.cue:3", "MESH0001": "intent/mesh.cue:1", "house-rule": "b.cue:1"}
	if d := cmp.Diff(want, places); d != "" {
		t.Error(d)
	}
}

func TestTextShowsTwentyAndCountsTheRest(t *testing.T) {
	var l diag.List
	for i := range 23 {
		l = append(l, diag.New("MESH0201", diag.Pos{File: "a.cue", Line: i + 1, Col: 1}, "problem %d", i))
	}
	out := render(t, diag.Text, l, diag.Options{})
	if n := strings.Count(out, "error MESH0201"); n != 20 {
		t.Errorf("%d findings printed, want 20", n)
	}
	if !strings.HasSuffix(out, "and 3 more (23 errors in all)\n") {
		t.Errorf("the rest is not counted:\n%s", out)
	}
	if out := render(t, diag.Text, l[:20], diag.Options{}); strings.Contains(out, "more") {
		t.Errorf("exactly twenty findings leave no rest:\n%s", out)
	}
}

func TestTextForm(t *testing.T) {
	l := diag.List{diag.Warn("MESH0204", diag.Pos{File: "m/r.cue", Line: 12, Col: 3}, "route %q sends to unknown service %q", "web", "wbe").
		WithRelated(diag.Pos{File: "m/s.cue", Line: 2}, "declared here").WithFix("write:\nto: web: 100")}
	want := `m/r.cue:12:3: warning MESH0204: route "web" sends to unknown service "wbe"
    m/s.cue:2: declared here
    fix: write:
       | to: web: 100
`
	if d := cmp.Diff(want, render(t, diag.Text, l, diag.Options{})); d != "" {
		t.Error(d)
	}
	coloured := render(t, diag.Text, l, diag.Options{Color: true})
	if !strings.Contains(coloured, "\x1b[1;33mwarning\x1b[0m MESH0204") {
		t.Errorf("no colour: %q", coloured)
	}
}

func TestUnknownFormatIsAnError(t *testing.T) {
	var b bytes.Buffer
	err := diag.Render(&b, "yaml", nil, diag.Options{})
	if err == nil || !strings.Contains(err.Error(), "text, json, sarif, junit, github") || b.Len() != 0 {
		t.Errorf("err %v, output %q", err, b.String())
	}
	if _, err := diag.ParseFormat("Text"); err == nil {
		t.Error("ParseFormat accepted a format in other case")
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestAFailedWriteIsReported(t *testing.T) {
	for _, f := range diag.Formats() {
		if err := diag.Render(brokenWriter{}, f, diag.List{diag.New("MESH0201", diag.Pos{}, "x")}, diag.Options{}); err == nil {
			t.Errorf("%s: no error for a closed pipe", f)
		}
	}
}

func TestExitPrecedence(t *testing.T) {
	for _, c := range []struct {
		in   []diag.ExitCode
		want diag.ExitCode
	}{
		{nil, diag.ExitOK},
		{[]diag.ExitCode{0, 2}, diag.ExitChanges},
		{[]diag.ExitCode{2, 5}, diag.ExitBudget},
		{[]diag.ExitCode{5, 3, 2}, diag.ExitInvalid},
		{[]diag.ExitCode{3, 4, 5}, diag.ExitStale},
		{[]diag.ExitCode{4, 1, 3}, diag.ExitFailure},
		{[]diag.ExitCode{0, 77}, diag.ExitFailure},
	} {
		if got := diag.Exit(c.in...); got != c.want {
			t.Errorf("Exit(%v) = %d, want %d", c.in, got, c.want)
		}
	}
}
