package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/envoybin"
	"meshc.dev/meshc/internal/guard"
	"meshc.dev/meshc/internal/printer"
)

// planFlags say what is compared with what.
type planFlags struct {
	intentFlags
	base, expect, policies, trust string
	detailed, defaults, mergeBase bool
	memo                          *compiler.Memo // what did not change is one object on both sides, and in the next round
}

func (a *app) planCmd() *cobra.Command {
	f := planFlags{memo: compiler.NewMemo()}
	var again watchFlags
	cmd := &cobra.Command{
		Use: "plan [DIR] --base REV", Short: "Say what a change of intent will really do", Args: takes(0, 1),
		Long: `Compare the intent in DIR (the working tree, or --rev) with that of --base by meaning,
for all requests: who gains or loses access, routes, weights, timeouts, retries, mTLS,
gateways, each with a request whose outcome changes. What could not be compared is told
as such. No cluster is needed.`,
		Example: "  meshc plan --base origin/main\n  meshc plan --base HEAD --watch\n  meshc plan --base origin/main --rev HEAD -o markdown --detailed-exitcode",
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.defaults {
				return a.tellDefaults(cmd.Context(), f, args)
			}
			if f.base == "" {
				return fail(diag.ExitFailure, "name what to compare with: --base origin/main, or --base none for an empty mesh")
			}
			dir := a.meshDir(args)
			return a.rounds(cmd.Context(), again, &f.intentFlags, func() error { return a.plan(cmd.Context(), &f, dir) }, dir, f.policies)
		},
	}
	f.add(a, cmd)
	again.add(cmd)
	fl := cmd.Flags()
	a.prints(cmd, []document{{"plan", planDoc{}}, {"defaults", defaultsDoc{}}}, textForm, jsonForm, yamlForm, markdownForm, sarifForm, junitForm, githubForm)
	fl.StringVar(&f.base, "base", "", "commit to compare with, such as origin/main; \"none\" for an empty mesh")
	completes(cmd, "base", commitsIn(dirArg))
	fl.BoolVar(&f.mergeBase, "merge-base", true, "compare with the commit at which this left --base, so that the work of others since then is not told")
	fl.StringVar(&f.expect, "expect-base", "", "hash that --base must have; another one is stale (code 4)")
	fl.StringVar(&f.policies, "policies", "", "folder with more Rego policies (default: those of the base)")
	fl.StringVar(&f.trust, "trust", "", "trust policy whose rules are to agree with the owners of the packages")
	fl.BoolVar(&f.detailed, "detailed-exitcode", false, "end with 2 if anything served changes")
	fl.BoolVar(&f.defaults, "defaults", false, "print the table of defaults, and those of the intent if DIR is given, and end")
	return cmd
}

// defaultsDoc is the table of defaults.
type defaultsDoc struct {
	Defaults []compiler.Default `json:"defaults"`
}

// tellDefaults prints the language's defaults, and those of the intent if it is named.
func (a *app) tellDefaults(ctx context.Context, f planFlags, args []string) error {
	rows := compiler.Defaults()
	if len(args) > 0 {
		p, err := f.load(ctx, a, a.meshDir(args))
		if err != nil {
			return err
		}
		rows = append(rows, p.Defaults()...)
	}
	if a.form().structured() {
		return a.document(defaultsDoc{rows})
	}
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	printer.Fprintf(w, "FIELD\tDEFAULT\tWHY\n")
	for _, d := range rows {
		printer.Fprintf(w, "%s\t%s\t%s\n", d.Field, d.Value, d.Why)
	}
	return w.Flush()
}

// planned is a finished comparison with everything that is told about it.
type planned struct {
	changes compiler.Changes
	// findings are those of the change: its errors, and warnings that the base has not.
	findings diag.List
	// before are the base's findings; standing are the warnings among them that stay.
	before, standing diag.List
	// own are what the change's own policies find besides, by its own words about rules. They
	// do not judge the change, but all that is released after it.
	own      diag.List
	bytes    byteDiff
	verdict  guard.Result
	expiries []time.Time
	base     planStart
}

func (a *app) plan(ctx context.Context, f *planFlags, dir string) error {
	p, err := a.planOf(ctx, f, dir)
	if err != nil {
		return a.noPlan(err)
	}
	if err := a.tellPlan(p); err != nil {
		return err
	}
	return quiet(p.exit(f.detailed))
}

func (a *app) planOf(ctx context.Context, f *planFlags, dir string) (planned, error) {
	head, at, err := f.open(a, dir)
	if err != nil {
		return planned{}, err
	}
	return bounded(ctx, &f.bounds, func(ctx context.Context, c *compile.Compiler) (planned, error) {
		return a.planChange(ctx, c, f, dir, head, at)
	})
}

// planChange compares head, as of at, with the base.
func (a *app) planChange(ctx context.Context, c *compile.Compiler, f *planFlags, dir string, head fs.FS, at time.Time) (planned, error) {
	c.Foresee(ctx, compile.OwnPolicies(head))
	after, ds, err := c.Load(ctx, head, compiler.Options{Environment: f.env, At: at, Memo: f.memo})
	if err != nil {
		return planned{}, err
	}
	if ds = append(f.staged(dir), ds...); ds.HasErrors() {
		return planned{}, a.placed(ds).Err()
	}
	from, err := planBase(ctx, c, f, dir, at, after)
	if err != nil {
		return planned{}, err
	}
	judge, user := from.program, from.policies
	if f.policies != "" || f.base == "none" {
		judge = nil
		if user, err = choosePolicies(head, dir, f.policies); err != nil {
			return planned{}, err
		}
	}
	p, err := a.compare(ctx, c, from.program, after, judge, at, user)
	if err != nil {
		return planned{}, err
	}
	p.findings = append(p.findings, ds...)
	p.tellApart(from.problems)
	p.base = from
	if err := p.comparePolicies(from.policies, compile.OwnPolicies(head)); err != nil {
		return p, err
	}
	if judge != nil {
		if err := p.judgeByOwn(ctx, c, after, at, compile.OwnPolicies(head)); err != nil {
			return planned{}, err
		}
	}
	more, err := a.agree(f.trust, after.Packages(), dir)
	if err != nil {
		return planned{}, err
	}
	p.findings = append(p.findings, more...).Sorted()
	return p, nil
}

// judgeByOwn asks the policies that a change brings, by which it is released once it is
// merged: one that they deny would be merged and never served.
func (p *planned) judgeByOwn(ctx context.Context, c *compile.Compiler, after *compiler.Program, at time.Time, own compile.Rego) error {
	court, ds := c.Convene(ctx, own)
	if !ds.HasErrors() {
		res, err := court.Judge(ctx, compile.Case{Program: after, At: at, Release: p.bytes.after})
		if err != nil {
			return err
		}
		if ds = append(ds, res.Findings...); !ds.HasErrors() {
			ahead, err := c.Ahead(ctx, court, after, nil, ds)
			if err != nil {
				return err
			}
			ds = append(ds, ahead...)
		}
	}
	for _, d := range ds.Sorted() {
		told := func(o diag.Diagnostic) bool { return o.Code == d.Code && o.Text == d.Text && o.Severity == d.Severity }
		if !slices.ContainsFunc(p.findings, told) && !slices.ContainsFunc(p.standing, told) {
			p.own = append(p.own, d)
		}
	}
	return nil
}

// tellApart takes from the findings the warnings that the base has, too: by what they say,
// since lines move.
func (p *planned) tellApart(base diag.List) {
	type said struct {
		code diag.Code
		text string
	}
	had := map[said]int{}
	for _, d := range append(base, p.before...) {
		if !d.IsError() {
			had[said{d.Code, d.Text}]++
		}
	}
	var fresh diag.List
	for _, d := range p.findings.Sorted() {
		if k := (said{d.Code, d.Text}); !d.IsError() && had[k] > 0 {
			had[k]--
			p.standing = append(p.standing, d)
			continue
		}
		fresh = append(fresh, d)
	}
	p.findings = fresh
}

// noPlan tells why there is no plan. A comment says it as well: else the one before would
// stay where the change is reviewed.
func (a *app) noPlan(err error) error {
	ds := findings(err)
	var broken *baseError
	if a.form() == markdownForm {
		why, s := "there is none", compiler.Section{Title: "Problems", Lines: linesOf(ds)}
		switch {
		case errors.As(err, &broken):
			why, s = "the base is not compiled", compiler.Section{Title: problemsOfBase, Lines: linesOf(broken.problems)}
		case exitOf(ds) == diag.ExitInvalid:
			why = "invalid"
		case len(ds) == 0:
			s.Lines = []string{err.Error()}
		}
		if err := compiler.NoPlan(a.out, why, s); err != nil {
			return err
		}
	}
	if errors.As(err, &broken) {
		if perr := a.warn(broken.problems); perr != nil {
			return perr
		}
	}
	return err
}

// linesOf are problems as lines of a report.
func linesOf(ds diag.List) []string {
	var out []string
	for _, d := range ds {
		out = append(out, strings.Split(d.String(), "\n")...)
	}
	return out
}

// problemsOfBase is the title of problems that stand at the lines of the base, where the
// change may have other ones.
const problemsOfBase = "Problems of the base, not of this change"

// compare compares two programs. user's policies judge the second, by the words about
// rules of judge, or by its own if that is nil.
func (a *app) compare(ctx context.Context, c *compile.Compiler, before, after, judge *compiler.Program, at time.Time, user compile.Rego) (planned, error) {
	p := planned{expiries: after.Expiries()}
	var meaning errgroup.Group // which needs no bytes, as they need none of it
	meaning.Go(func() (err error) {
		p.changes, err = compiler.CompareAhead(before, after, compiler.Limits{})
		return err
	})
	err := p.judge(ctx, c, before, after, judge, at, user)
	if err := errors.Join(meaning.Wait(), err); err != nil {
		return p, err
	}
	p.changes.Blast.Proxies = p.bytes.classes()
	return p, nil
}

// judge compiles both programs as far as they differ, and asks the policies about the second.
func (p *planned) judge(ctx context.Context, c *compile.Compiler, before, after, judge *compiler.Program, at time.Time, user compile.Rego) error {
	old, fresh, were, ds := c.Differing(before, after)
	p.before = were
	p.findings = ds
	var err error
	if p.bytes, err = newByteDiff(old, fresh); err != nil {
		return err
	}
	court, ds := c.Convene(ctx, user)
	if ds.HasErrors() {
		p.findings = append(p.findings, ds...)
		return nil
	}
	if p.verdict, err = court.Judge(ctx, compile.Case{Program: after, At: at, Release: fresh, Base: judge}); err != nil {
		return err
	}
	p.findings = slices.Concat(p.findings, ds, p.verdict.Findings)
	if !p.findings.HasErrors() {
		ahead, err := c.Ahead(ctx, court, after, judge, p.findings)
		if err != nil {
			return err
		}
		p.findings = append(p.findings, ahead...)
	}
	if len(p.verdict.Findings) > 0 {
		was, err := court.Judge(ctx, compile.Case{Program: before, At: at, Release: old, Base: judge})
		if err != nil {
			return err
		}
		p.before = append(p.before, was.Findings...)
	}
	return nil
}

// comparePolicies adds what becomes of the policies beside the intent.
func (p *planned) comparePolicies(before, after compile.Rego) error {
	b, err := before.Digests()
	if err != nil {
		return err
	}
	a, err := after.Digests()
	if err == nil {
		p.changes.Policies(b, a)
	}
	return err
}

// exit is the plan's exit code.
func (p planned) exit(detailed bool) diag.ExitCode {
	codes := []diag.ExitCode{exitOf(p.findings), exitOf(p.own)}
	if p.changes.OverBudget {
		codes = append(codes, diag.ExitBudget)
	}
	if detailed && (p.changes.Changed() || !p.bytes.empty()) {
		codes = append(codes, diag.ExitChanges)
	}
	return diag.Exit(codes...)
}

// planDoc is a plan for programs.
type planDoc struct {
	Plan compiler.Plan `json:"plan"`
	// Findings are those of the change: its errors, and warnings that the base has not.
	Findings diag.List `json:"findings"`
	// Standing are the warnings of the base that stay.
	Standing diag.List `json:"standing"`
	// Own are what the change's own policies find besides: what is released after it is
	// judged by them.
	Own     diag.List `json:"own"`
	Rollout rollout   `json:"rollout"`
	Bytes   bytesDoc  `json:"bytes"`
	// Envoy is the version of Envoy that was compiled for.
	Envoy string `json:"envoy"`
	// PoliciesEvaluated counts the rules that judged the change.
	PoliciesEvaluated int `json:"policies_evaluated"`
	// Expiries are the instants at which something in the intent ends.
	Expiries []time.Time `json:"expiries"`
	Base     baseDoc     `json:"base"`
}

// bytesDoc is which artifacts of a release differ.
type bytesDoc struct {
	// Resources are Envoy's, each once with the classes of proxies that get it.
	Resources []release.ResourceChange `json:"resources"`
	// Others are the files that are no Envoy resource and no list of them.
	Others []release.Change `json:"others"`
}

func (d byteDiff) document() bytesDoc { return bytesDoc{d.resources, d.others} }

func (a *app) tellPlan(p planned) error {
	switch f := a.form(); f {
	case jsonForm, yamlForm:
		return a.document(planDoc{
			Plan: p.changes.Plan, Findings: listOf(p.findings), Standing: listOf(p.standing), Own: listOf(p.own),
			Rollout: p.bytes.rollout(), Bytes: p.bytes.document(), Envoy: envoybin.Supported, PoliciesEvaluated: p.verdict.Evaluated,
			Expiries: listOf(p.expiries), Base: p.base.document(),
		})
	case markdownForm:
		return p.changes.Markdown(a.out, a.at, p.sections(a, true))
	case sarifForm, junitForm, githubForm:
		return a.render(a.placed(slices.Concat(p.changes.Findings(), p.findings, p.afterMerge())))
	case textForm, mermaidForm, dotForm, svgForm:
	}
	return p.changes.Text(a.out, a.at, p.sections(a, false), a.color)
}

// listOf is an empty list in place of none: documents have no null where a list belongs.
func listOf[S ~[]E, E any](s S) S {
	if s == nil {
		return S{}
	}
	return s
}

// afterMerge are the findings of the change's own policies, each of which says so.
func (p planned) afterMerge() diag.List {
	out := slices.Clone(p.own)
	for i := range out {
		out[i].Text = "after the merge, by the change's own policies: " + out[i].Text
	}
	return out
}

// sections are the parts of the report behind the changes. Where the form can fold, it has
// what was there before as well.
func (p planned) sections(a *app, folds bool) []compiler.Section {
	var out []compiler.Section
	if len(p.base.broken) > 0 {
		out = append(out, compiler.Section{Title: problemsOfBase, Lines: linesOf(a.placed(p.base.broken))})
	}
	if len(p.findings) > 0 {
		out = append(out, compiler.Section{Title: "Findings", Lines: linesOf(a.placed(p.findings))})
	}
	if len(p.own) > 0 {
		out = append(out, compiler.Section{Title: "Findings after the merge, by the change's own policies", Lines: linesOf(a.placed(p.own))})
	}
	if n := len(p.standing); n > 0 {
		was := compiler.Section{Title: "The base has " + count(n, "warning") + " as well (meshc vet)", Folded: true}
		if folds {
			was.Lines = linesOf(a.placed(p.standing))
		}
		out = append(out, was)
	}
	proof := compiler.Section{Title: "Proof", Lines: []string{"compiled for Envoy " + envoybin.Supported, fmt.Sprintf("%d policies evaluated", p.verdict.Evaluated)}}
	proof.Lines = append(proof.Lines, p.base.said...)
	out = append(out, proof)
	if r, ok := p.bytes.rollout().section(); ok {
		out = append(out, r)
	}
	return append(out, compiler.Section{Title: p.bytes.title(), Lines: p.bytes.lines(), Folded: true})
}

func (a *app) canICmd() *cobra.Command {
	var f intentFlags
	var r compiler.Request
	var users, claims []string
	cmd := &cobra.Command{
		Use: "can-i [DIR] --to SERVICE [--from SERVICE]", Short: "Ask who may do what; leave parts out for the exact set", Args: takes(0, 1),
		Long: `Say whether requests get through: yes, partly or no. What is left out stands for all
of its values, and the answer is the exact set of requests that do, with the lines that
let them in. With no it says what is nearest that would. It ends with 3 if the answer is
no.`,
		Example: "  meshc can-i --from productpage --to reviews\n  meshc can-i --from '*' --to reviews --method DELETE",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.load(cmd.Context(), a, a.meshDir(args))
			if err != nil {
				return err
			}
			a.noteMethod(r.Method)
			if err := readUsers(&r, users, claims); err != nil {
				return err
			}
			ans, err := p.CanI(r, compiler.Limits{})
			if err != nil {
				return err
			}
			if a.form().structured() {
				err = a.document(ans)
			} else {
				a.tellCan(ans, p)
			}
			if err == nil && ans.Can == "no" {
				return quiet(diag.ExitInvalid)
			}
			return err
		},
	}
	f.add(a, cmd)
	fl := cmd.Flags()
	fl.StringVar(&r.From, "from", "*", "caller: a service, gateway/name, \"\" for no identity, * for anybody")
	fl.StringVar(&r.To, "to", "", "destination: a service, or gateway/name")
	fl.StringVarP(&r.Namespace, "namespace", "n", "", "namespace of names without one")
	fl.StringVar(&r.Port, "port", "", "name of the destination's port (default: its only one, or its main one)")
	fl.StringVar(&r.Host, "host", "", "Host header")
	fl.StringVar(&r.Source, "source", "", "address of the connection by which it comes (default: one that no rule names)")
	fl.StringVar(&r.Client, "client", "", "address of the visitor, as a gateway sees it (default: what is believed of x-forwarded-for, else the source)")
	fl.StringVar(&r.ServerName, "sni", "", "name that the connection to a port of HTTPS asks for (default: the host)")
	fl.StringVarP(&r.Method, "method", "X", "", "HTTP method; leave out for all")
	fl.StringVar(&r.Path, "path", "", "path; leave out for all")
	fl.StringArrayVar(&users, "user", nil, userFlag)
	fl.StringArrayVar(&claims, "claim", nil, claimFlag)
	a.prints(cmd, []document{{"can-i", compiler.CanAnswer{}}}, textForm, jsonForm, yamlForm)
	completes(cmd, "from", f.parties(a, "*"))
	completes(cmd, "to", f.parties(a))
	_ = cmd.MarkFlagRequired("to")
	return cmd
}

func (a *app) tellCan(ans compiler.CanAnswer, p *compiler.Program) {
	ink := map[string]printer.Ink{"yes": printer.Green, "partly": printer.Yellow, "no": printer.Red}[string(ans.Can)]
	a.verdict(ink, string(ans.Can), "")
	for _, e := range ans.Set {
		printer.Fprintf(a.out, "  %s\n", e.Text)
		for _, o := range e.From {
			printer.Fprintf(a.out, "    by %s at %s\n", o, a.at(p.Position(string(o))))
		}
		for _, r := range e.Refused {
			printer.Fprintf(a.out, "    except %v%%, which %s refuses (%d)\n", r.Percent, r.Target, r.Status)
		}
		if len(e.Bounds) > 0 {
			printer.Fprintf(a.out, "    at most: %s\n", joined(e.Bounds))
		}
	}
	for _, e := range ans.Refused {
		printer.Fprintf(a.out, "  refused %s\n", e.Text)
		for _, o := range e.From {
			printer.Fprintf(a.out, "    by %s at %s\n", p.Step(string(o)), a.at(p.Position(string(o))))
		}
	}
	if words := compiler.WordsAtDoor(ans); ans.Can == "no" && words != "" {
		printer.Fprintf(a.out, "  %s\n", words)
	} else if ans.Can == "no" && ans.Answer.Why != "" {
		printer.Fprintf(a.out, "  %s\n", ans.Answer.Why)
		return // by another name more may get through
	}
	if ans.Can == "no" && len(ans.Refused) == 0 {
		for _, o := range ans.Answer.From {
			printer.Fprintf(a.out, "  because of %s at %s\n", o, a.at(p.Position(string(o))))
		}
	}
	if ans.Can == "no" {
		a.tellNear(ans.Near, p)
	}
}

// joined are bounds in a line.
func joined(bounds []compiler.Bound) string {
	out := make([]string, len(bounds))
	for i, b := range bounds {
		out[i] = b.String()
	}
	return strings.Join(out, ", ")
}

// fewNear are the entries that are told of what would get through instead.
const fewNear = 5

// tellNear says what would get through in place of what does not.
func (a *app) tellNear(near *compiler.Near, p *compiler.Program) {
	if near == nil {
		printer.Fprint(a.out, "  nothing gets through here, whoever asks for what\n")
		return
	}
	words := map[string]string{"path": "path", "method": "method", "from": "caller"}
	differs := make([]string, len(near.Differs))
	for i, part := range near.Differs {
		differs[i] = words[part]
	}
	printer.Fprintf(a.out, "  with another %s:\n", strings.Join(differs, " and "))
	for i, e := range near.Set {
		if i == fewNear {
			printer.Fprintf(a.out, "    and %d more\n", len(near.Set)-fewNear)
			return
		}
		printer.Fprintf(a.out, "    %s\n", e.Text)
		for _, o := range e.From {
			printer.Fprintf(a.out, "      by %s at %s\n", o, a.at(p.Position(string(o))))
		}
	}
}
