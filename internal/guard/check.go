package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	// Found is what rules over objects found, in the order of policies: each finding but
	// those about policies that gave no answer. It is empty for a mesh.
	Found []Found
	// Unanswered are the findings about policies that gave no answer.
	Unanswered diag.List
	// Evaluated is the number of policies (packages) that gave an answer.
	Evaluated int
	// Total is the number of policies that were asked.
	Total int
}

// Found is what a rule found in an object.
type Found struct {
	Rule Rule
	// Severity is what becomes of it, unless Exemption names what lets it through.
	Severity  Severity
	Exemption string
	// Problem is one of the result's findings.
	Problem diag.Diagnostic
}

// finding is what a rule returns. All fields but fix are demanded.
type finding struct {
	ID       string   `json:"id"`
	Path     string   `json:"path"`
	Severity Severity `json:"severity"`
	Msg      string   `json:"msg"`
	Fix      string   `json:"fix"`
}

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
	begin := func(ctx context.Context) func(policy) ([]finding, error) { return e.begin(ctx, e.rules, doc, in.At) }
	return e.evaluateAll(ctx, e.rules, e.timeout, begin, func(_ policy, f finding) Found {
		return Found{Severity: f.Severity, Problem: f.diagnostic(in.pos(f.Path))}
	})
}

// evaluateAll asks each of the policies. begin has them evaluated and returns what waits
// for the answer of the next one; settle makes something of a finding.
func (e *Engine) evaluateAll(ctx context.Context, rules []policy, limit time.Duration, begin func(context.Context) func(policy) ([]finding, error), settle func(policy, finding) Found) (Result, error) {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	res := Result{Total: len(rules)}
	next := begin(limited)
	for _, r := range rules {
		found, problem := next(r)
		if err := ctx.Err(); err != nil {
			return Result{}, fmt.Errorf("evaluating policy %q: %w", r.pkg, err)
		}
		if problem != nil {
			d := r.failed(problem, limit)
			res.Findings, res.Unanswered = append(res.Findings, d), append(res.Unanswered, d)
			continue
		}
		res.Evaluated++
		for _, f := range found {
			one := settle(r, f)
			res.Findings = append(res.Findings, one.Problem)
			if r.rules != nil {
				res.Found = append(res.Found, one)
			}
		}
	}
	if res.Evaluated == 0 {
		d := nonePolicy()
		res.Findings, res.Unanswered = append(res.Findings, d), append(res.Unanswered, d)
	}
	res.Findings = res.Findings.Sorted()
	return res, nil
}

// answer is what one policy says.
type answer struct {
	found []finding
	err   error
}

// begin has the policies evaluated, one after the other, and returns what waits for the next
// one's answer. It gives up waiting shortly after the deadline. Such an evaluation goes on
// in the background until its built-in function returns; its result is dropped, and while
// there are several of a policy it is not asked.
func (e *Engine) begin(ctx context.Context, rules []policy, doc ast.Value, at time.Time) (next func(policy) ([]finding, error)) {
	answers := make(chan answer, len(rules)) // nobody may wait for them any more
	e.crew.do(func() {
		for _, r := range rules {
			answers <- r.evaluate(ctx, doc, at, e.left)
		}
	})
	late := false
	return func(r policy) ([]finding, error) {
		if late {
			return nil, ctx.Err()
		}
		select {
		case a := <-answers:
			return a.found, a.err
		case <-ctx.Done():
		}
		patience := time.NewTimer(grace)
		defer patience.Stop()
		select {
		case a := <-answers:
			return a.found, a.err
		case <-patience.C:
			late = true
			end := e.left.begin(r.pkg)
			go func() {
				<-answers
				end()
			}()
			return nil, ctx.Err()
		}
	}
}

// evaluate asks one policy, unless time is over or too many of its evaluations go on.
func (r policy) evaluate(ctx context.Context, doc ast.Value, at time.Time, behind *left) answer {
	if err := ctx.Err(); err != nil {
		return answer{err: err}
	}
	if err := behind.full(r.pkg); err != nil {
		return answer{err: err}
	}
	found, err := r.run(ctx, doc, at)
	return answer{found, err}
}

// errLeft: a policy is not asked because earlier evaluations of it still run.
var errLeft = errors.New("it denies until they end")

func (r policy) run(ctx context.Context, doc ast.Value, at time.Time) (found []finding, err error) {
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
		if err == nil {
			err = r.settle(&f)
		}
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
	if f.ID == "" || f.Path == "" || f.Msg == "" {
		return finding{}, fmt.Errorf("a finding needs id, path and msg, got %s", cut(string(raw)))
	}
	return f, nil
}

// settle gives a finding the severity that its rule declares, and refuses one of a rule
// that nobody declared: it could neither be softened nor exempted from.
func (r policy) settle(f *finding) error {
	if r.rules != nil {
		declared, ok := r.rules[f.ID]
		switch {
		case !ok:
			return fmt.Errorf("a finding has the id %q, which no rule of the package declares", cut(f.ID))
		case f.Severity == "":
			f.Severity = declared.Severity
		case f.Severity != declared.Severity:
			return fmt.Errorf("a finding of rule %q says %q, and the rule declares %q", f.ID, cut(string(f.Severity)), declared.Severity)
		}
	}
	if !slices.Contains(severities(), f.Severity) {
		return fmt.Errorf("a finding of rule %q needs the severity deny, warn or audit, not %q", cut(f.ID), cut(string(f.Severity)))
	}
	return nil
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
	d.Code, d.Severity = f.Severity.told(d.Code)
	if d.Pos == (diag.Pos{}) {
		d.Text += " (at " + cut(f.Path) + ")"
	}
	d.Fix = cut(f.Fix)
	return d
}

// told is the code and severity by which people are told of a finding; denied is the code
// of a denial.
func (s Severity) told(denied diag.Code) (diag.Code, diag.Severity) {
	switch s {
	case Warn:
		return diag.CodePolicyWarned, diag.Warning
	case Audit:
		return diag.CodePolicyNoted, diag.Note
	case Deny:
	}
	return denied, diag.Error
}

// failed makes the denial of a policy without an answer.
func (r policy) failed(err error, limit time.Duration) diag.Diagnostic {
	if errors.Is(err, errLeft) {
		return diag.New(diag.CodePolicyBudget, r.pos, "policy %q is not asked: %v", r.pkg, err).
			WithFix("make the rule cheaper: it computes with a text or a number of the object that may be large")
	}
	if spent := (*SpentError)(nil); errors.As(err, &spent) {
		return diag.New(diag.CodePolicyBudget, r.pos, "policy %q gave no answer, which counts as a denial: %v", r.pkg, err).
			WithFix("build nothing from an object that grows with its lists or texts many times over: products of lists, ranges up to a number, texts that are repeated")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return diag.New(diag.CodePolicyBudget, r.pos, "policy %q was not done when %s for all policies were over", r.pkg, limit).
			WithFix("make the rule cheaper: look things up by key where it compares all with all")
	}
	return diag.New(diag.CodePolicyFailed, r.pos, "policy %q gave no answer, which counts as a denial: %s", r.pkg, cut(err.Error())).
		WithFix("make %s a set that is defined for every input: %s contains {…} if {…}", entry, entry)
}
