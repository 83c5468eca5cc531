package diag

import (
	"io"
	"net/url"
	"slices"
	"strings"
)

// The part of SARIF 2.1.0 that meshc writes.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID     string       `json:"id"`
		Short  sarifMessage `json:"shortDescription"`
		Full   sarifMessage `json:"fullDescription"`
		Help   sarifMessage `json:"help"`
		Config sarifConfig  `json:"defaultConfiguration"`
		Props  sarifTags    `json:"properties"`
	}
	sarifConfig struct {
		Level string `json:"level"`
	}
	sarifTags struct {
		Tags []string `json:"tags"`
	}
	sarifResult struct {
		RuleID    string          `json:"ruleId"`
		RuleIndex int             `json:"ruleIndex"`
		Level     string          `json:"level"`
		Message   sarifMessage    `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
		Related   []sarifLocation `json:"relatedLocations,omitempty"`
		Props     *sarifProps     `json:"properties,omitempty"`
	}
	sarifMessage struct {
		Text string `json:"text"`
	}
	sarifProps struct {
		Fix string `json:"fix"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Message  *sarifMessage  `json:"message,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI    string `json:"uri"`
		BaseID string `json:"uriBaseId"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
)

// renderSARIF writes one run. SARIF's own "fixes" demand byte edits, which a
// sentence is not: the fix stands in the message (viewers show it) and as a
// property (programs read it).
func renderSARIF(w io.Writer, l List, o Options) error {
	rules := []sarifRule{}
	index := map[Code]int{}
	for _, d := range l {
		if _, ok := index[d.Code]; !ok {
			index[d.Code] = 0
			rules = append(rules, sarifRuleOf(d))
		}
	}
	slices.SortFunc(rules, func(a, b sarifRule) int { return strings.Compare(a.ID, b.ID) })
	for i, r := range rules {
		index[Code(r.ID)] = i
	}
	results := make([]sarifResult, 0, len(l))
	for _, d := range l {
		results = append(results, sarifOne(d, index[d.Code], o.Anywhere))
	}
	driver := sarifDriver{Name: toolName, Version: o.ToolVersion, Rules: rules}
	return writeJSON(w, sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{{Tool: sarifTool{Driver: driver}, ColumnKind: "utf16CodeUnits", Results: results}},
	})
}

// sarifRuleOf describes a code as code scanning demands it. Its level is that of the first
// finding with it.
func sarifRuleOf(d Diagnostic) sarifRule {
	about, ok := About(d.Code)
	if !ok { // one of a user's policies, which says what it is itself
		about = Entry{Code: d.Code, When: "what a policy of this repository finds."}
	}
	r := sarifRule{
		ID: string(d.Code), Short: sarifMessage{Text: sarifText(about.When)}, Full: sarifMessage{Text: sarifText(about.When)},
		Help:   sarifMessage{Text: "meshc explain " + string(d.Code)},
		Config: sarifConfig{string(d.Severity)}, Props: sarifTags{[]string{"service-mesh"}},
	}
	if about.Example != "" {
		r.Full.Text += " For example: " + sarifText(about.Example)
	}
	return r
}

// sarifOne is one finding. Code scanning refuses a report with a result that is nowhere,
// so that anywhere stands for the place of those.
func sarifOne(d Diagnostic, rule int, anywhere string) sarifResult {
	r := sarifResult{RuleID: string(d.Code), RuleIndex: rule, Level: string(d.Severity), Message: sarifMessage{Text: sarifText(d.Text)}}
	if d.Fix != "" {
		r.Message.Text += "\nfix: " + sarifText(d.Fix)
		r.Props = &sarifProps{Fix: d.Fix}
	}
	at := d.Pos
	if at.File == "" && anywhere != "" {
		at = Pos{File: anywhere}
	}
	if p := sarifPlace(at); p != nil {
		if p.Region == nil {
			p.Region = &sarifRegion{StartLine: 1}
		}
		r.Locations = []sarifLocation{{Physical: p}}
	}
	for _, rel := range d.Related {
		r.Related = append(r.Related, sarifLocation{Physical: sarifPlace(rel.Pos), Message: &sarifMessage{Text: sarifText(rel.Text)}})
	}
	return r
}

func sarifPlace(p Pos) *sarifPhysical {
	if p.File == "" {
		return nil
	}
	out := &sarifPhysical{Artifact: sarifArtifact{URI: (&url.URL{Path: p.File}).String(), BaseID: "%SRCROOT%"}}
	if p.Line > 0 {
		out.Region = &sarifRegion{StartLine: p.Line, StartColumn: max(p.Col, 0)}
	}
	return out
}

// sarifText escapes brackets, which SARIF's plain text reads as embedded links,
// where they would form one.
func sarifText(s string) string {
	if !strings.Contains(s, "](") {
		return s
	}
	return strings.NewReplacer("[", `\[`, "]", `\]`).Replace(s)
}
