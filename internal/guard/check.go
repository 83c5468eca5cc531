package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
)

// Result is what the policies say about one Input.
type Result struct {
	// Findings holds denials (errors) and warnings, sorted.
	Findings diag.List
	// Evaluated is the number of policies (packages) that gave an answer.
	Evaluated int
	// Total is the number of policies that were asked.
	Total int
}

// finding is what a rule returns. All fields but fix are demanded.
type finding struct {
	ID       string `json:"id"`
	Path     string `json:"path"`
	Severity string `json:"severity"`
	Msg      string `json:"msg"`
	Fix      string `json:"fix"`
}

// The severities of a finding.
const (
	deny = "deny"
	warn = "warn"
)

// maxText bounds a message, in characters.
const maxText = 500

// grace is how long an evaluation may take to notice that its time is over; a
// built-in function that computes does not look at its context.
const grace = 200 * time.Millisecond

// Check evaluates every policy over in. What went wrong in a policy is a denial in
// the result. The error is for the caller's own trouble: a malformed input, or ctx
// that ended before the policies' own time was over.
func (e *Engine) Check(ctx context.Context, in Input) (Result, error) {
	doc, err := in.value()
	if err != nil {
		return Result{}, err
	}
	return evaluateAll(ctx, e.rules, doc, in.At, e.timeout, in.pos)
}

// evaluateAll asks each of the rules. where gives the user's position of a path.
func evaluateAll(ctx context.Context, rules []rule, doc ast.Value, at time.Time, limit time.Duration, where func(string) diag.Pos) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res := Result{Total: len(rules)}
	for _, r := range rules {
		found, problem := r.evaluate(limited, doc, at)
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("evaluating policy %q: %w", r.pkg, err)
		}
		if problem != nil {
			res.Findings = append(res.Findings, r.failed(problem, limit))
			continue
		}
		res.Evaluated++
		for _, f := range found {
			res.Findings = append(res.Findings, f.diagnostic(where(f.Path)))
		}
	}
	if res.Evaluated == 0 {
		res.Findings = append(res.Findings, nonePolicy())
	}
	res.Findings = res.Findings.Sorted()
	return res, nil
}

// evaluate runs one policy and gives up waiting shortly after the deadline. Such
// a run goes on in the background until its built-in function returns; its
// result is dropped.
func (r rule) evaluate(ctx context.Context, doc ast.Value, at time.Time) ([]finding, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	type answer struct {
		found []finding
		err   error
	}
	done := make(chan answer, 1)
	go func() {
		found, err := r.run(ctx, doc, at)
		done <- answer{found, err}
	}()
	select {
	case a := <-done:
		return a.found, a.err
	case <-ctx.Done():
	}
	late := time.NewTimer(grace)
	defer late.Stop()
	select {
	case a := <-done:
		return a.found, a.err
	case <-late.C:
		return nil, ctx.Err()
	}
}

func (r rule) run(ctx context.Context, doc ast.Value, at time.Time) (found []finding, err error) {
	defer func() { // a panic of the engine must not become a pass, nor end the process
		if p := recover(); p != nil {
			err = fmt.Errorf("the policy engine failed: %v", p)
		}
	}()
	rs, err := r.query.Eval(ctx, rego.EvalParsedInput(doc), rego.EvalTime(at), rego.EvalSeed(zeroes{}))
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if len(rs) != 1 || len(rs[0].Expressions) != 1 {
		return nil, fmt.Errorf("%s is undefined", entry)
	}
	list, ok := rs[0].Expressions[0].Value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is a %T, not a set of findings", entry, rs[0].Expressions[0].Value)
	}
	for _, v := range list {
		f, err := decode(v)
		if err != nil {
			return nil, err
		}
		found = append(found, f)
	}
	return found, nil
}

// zeroes is the seed of every evaluation: nothing may depend on it.
type zeroes struct{}

func (zeroes) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// decode reads one finding. Unknown fields are refused: a misspelt one would be lost.
func decode(v any) (finding, error) {
	raw, err := canon.JSON(v)
	if err != nil {
		return finding{}, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	var f finding
	if err := dec.Decode(&f); err != nil {
		return finding{}, fmt.Errorf("a finding is malformed: %w", err)
	}
	if f.ID == "" || f.Path == "" || f.Msg == "" || (f.Severity != deny && f.Severity != warn) {
		return finding{}, fmt.Errorf("a finding needs id, path, msg and severity %q or %q, got %s", deny, warn, cut(string(raw)))
	}
	return f, nil
}

// cut bounds a text by characters.
func cut(s string) string {
	if utf8.RuneCountInString(s) <= maxText {
		return s
	}
	return string([]rune(s)[:maxText]) + "…"
}

func (f finding) diagnostic(at diag.Pos) diag.Diagnostic {
	d := diag.New(diag.CodePolicyDenied, at, "[%s] %s", f.ID, cut(f.Msg))
	if f.Severity == warn {
		d.Code, d.Severity = diag.CodePolicyWarned, diag.Warning
	}
	if d.Pos == (diag.Pos{}) {
		d.Text += " (at " + cut(f.Path) + ")"
	}
	d.Fix = cut(f.Fix)
	return d
}

// failed makes the denial of a policy without an answer.
func (r rule) failed(err error, limit time.Duration) diag.Diagnostic {
	if errors.Is(err, context.DeadlineExceeded) {
		return diag.New(diag.CodePolicyBudget, r.pos, "policy %q was not done when %s for all policies were over", r.pkg, limit).
			WithFix("make the rule cheaper: look things up by key where it compares all with all")
	}
	return diag.New(diag.CodePolicyFailed, r.pos, "policy %q gave no answer, which counts as a denial: %s", r.pkg, cut(err.Error())).
		WithFix("make %s a set that is defined for every input: %s contains {…} if {…}", entry, entry)
}
