package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
	"meshc.dev/meshc/schemas"
)

// versions are those of a build.
type versions struct {
	Meshc string `json:"meshc"`
	// Schema is the CUE module that intent imports, Digest that of its files.
	Schema string `json:"schema"`
	Digest string `json:"digest"`
	Go     string `json:"go"`
	// Platform is an operating system and an architecture.
	Platform string `json:"platform"`
}

func (a *app) versionCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "version", Short: "Print the versions of meshc, its schema and Go", Args: takes(0, 0),
		Example: "  meshc version\n  meshc version -o json",
		RunE: func(*cobra.Command, []string) error {
			v := versions{compiler.Version, schemas.Module, schemas.Digest(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
			if a.form().structured() {
				return a.document(v)
			}
			return printer.Fprintf(a.out, "meshc %s\nschema %s %.12s\n%s %s\n", v.Meshc, v.Schema, v.Digest, v.Go, v.Platform)
		},
	}
	a.prints(cmd, []document{{"version", versions{}}}, textForm, jsonForm, yamlForm)
	return cmd
}

// compiled is what became of a compilation.
type compiled struct {
	// Release is its digest.
	Release     string `json:"release"`
	Environment string `json:"environment"`
	// Classes and Artifacts count the classes of proxies and the files of the release.
	Classes   int `json:"classes"`
	Artifacts int `json:"artifacts"`
	// Proof is absent if no Envoy was asked.
	Proof    *proved   `json:"proof,omitempty"`
	Findings diag.List `json:"findings"`
}

// proved is how many resources an Envoy of a version took.
type proved struct {
	Envoy     string `json:"envoy"`
	Resources int    `json:"resources"`
}

// String is a part of a sentence, "" for nil.
func (p *proved) String() string {
	if p == nil {
		return ""
	}
	return fmt.Sprintf(", %d resources accepted by Envoy %s", p.Resources, p.Envoy)
}

func (a *app) compileCmd() *cobra.Command {
	var f intentFlags
	var e envoyFlags
	var out string
	cmd := &cobra.Command{
		Use: "compile [DIR] --out RELEASE", Short: "Compile intent to a release folder", Args: takes(0, 1),
		Long: `Compile the intent in DIR (default: the current folder) to a release: canonical
files, named by their digest. The same input gives the same bytes on every machine.
Intent that a policy denies gives no release: the release notes the policies it passed.
With --envoy nothing is written that a real Envoy refuses.`,
		Example: "  meshc compile . --out release\n  meshc compile . --rev HEAD --env production --out release --envoy",
		RunE: func(cmd *cobra.Command, args []string) error {
			start := time.Now()
			dir := a.meshDir(args)
			fsys, at, err := f.open(a, dir)
			if err != nil {
				return err
			}
			passed, err := bounded(cmd.Context(), &f.bounds, func(ctx context.Context, c *compile.Compiler) (compile.Passed, error) {
				return c.Release(ctx, fsys, compiler.Options{Environment: f.env, At: at})
			})
			if err != nil {
				return err
			}
			r, ds := passed.Release, passed.Problems
			var proof *proved
			if e.wanted() && !ds.HasErrors() {
				res, version, err := a.prove(cmd.Context(), &e, r)
				if err != nil {
					return err
				}
				ds = append(ds, res.Findings...)
				proof = &proved{Envoy: version, Resources: res.Resources}
			}
			ds = a.placed(append(f.staged(dir), ds...).Sorted())
			if err := ds.Err(); err != nil {
				return err
			}
			if err := release.WriteDir(r, out); err != nil {
				return fmt.Errorf("%w; nothing of it was written", err)
			}
			told := compiled{Release: r.Digest(), Environment: passed.Program.Environment(), Classes: len(r.Classes()), Artifacts: len(r.Paths()), Proof: proof, Findings: ds}
			if a.form().structured() {
				return a.document(told)
			}
			if err := a.render(ds); err != nil || a.form() != textForm {
				return err
			}
			return printer.Fprintf(a.out, "release %s\n%d proxy classes, %d artifacts, environment %s%s, %s\n",
				told.Release, told.Classes, told.Artifacts, told.Environment, told.Proof, time.Since(start).Round(time.Millisecond))
		},
	}
	f.add(a, cmd)
	a.prints(cmd, []document{{"compile", compiled{}}}, textForm, jsonForm, yamlForm, sarifForm, junitForm, githubForm)
	e.add(cmd, "envoy", "have a real Envoy judge every resource before anything is written")
	cmd.Flags().StringVar(&out, "out", "release", "folder to write; replaced as a whole")
	return cmd
}

const explainLong = `Say what becomes of one request, who answers it, and which lines of the intent decide
that. With a problem's code in place of the rest, say what the code means; with a word of
the intent language, what may stand behind it, what it does, and what people get wrong.

With --log, say it of each line that proxies wrote to a collector that is a file: which
lines of the intent have the names in it, and which release they are of. --plaintext says
in place of that who came to services without a certificate, for whom strict mTLS would
close the door.`

func (a *app) explainCmd() *cobra.Command {
	var f intentFlags
	var r compiler.Request
	var headers, users, claims []string
	log, plaintext, table := "", false, false
	cmd := &cobra.Command{
		Use: "explain [DIR] --to SERVICE [--from SERVICE] [--path /p]", Short: "Say what becomes of one request, and which lines decide it", Args: takes(0, 1),
		Long:    explainLong,
		Example: "  meshc explain MESH0206\n  meshc explain retry.perTry\n  meshc explain --from productpage --to reviews --path /reviews/0 -H end-user=jason\n  meshc explain --to gateway/edge --host bookinfo.example --path /productpage\n  meshc explain --rev HEAD --log proxy.log\n  meshc explain --log proxy.log --plaintext",
		RunE: func(cmd *cobra.Command, args []string) error {
			if log != "" {
				return a.explainLog(cmd.Context(), &f, a.meshDir(args), log, plaintext)
			}
			if plaintext {
				return fail(diag.ExitFailure, "--plaintext is about a log\nhelp:  --log FILE says which one, --log - reads standard input")
			}
			if len(args) == 1 && isCode(args[0]) {
				return a.explainCode(diag.Code(args[0]))
			}
			if len(args) == 1 && r.To == "" && !isFolder(args[0]) {
				return a.explainWord(args[0])
			}
			if r.To == "" {
				return explainNothing(args)
			}
			a.noteMethod(r.Method)
			if err := readHeaders(&r, headers); err != nil {
				return err
			}
			if err := readUsers(&r, users, claims); err != nil {
				return err
			}
			p, err := f.load(cmd.Context(), a, a.meshDir(args))
			if err != nil {
				return err
			}
			ans, err := p.Decide(r)
			if err != nil {
				return err
			}
			if ans.Written = p.Written(ans); table {
				ans.Access = p.Table(ans)
			}
			if a.form().structured() {
				return a.document(ans)
			}
			return a.explain(ans)
		},
	}
	f.add(a, cmd)
	fl := cmd.Flags()
	a.addressing(cmd, &f, &r)
	fl.StringArrayVarP(&headers, "header", "H", nil, "header as name=value; may be repeated")
	fl.StringArrayVar(&users, "user", nil, userFlag)
	fl.StringArrayVar(&claims, "claim", nil, claimFlag)
	fl.StringVar(&log, "log", "", "explain the lines of this file, - for standard input, in place of a request")
	fl.BoolVar(&plaintext, "plaintext", false, "with --log: tell who came to services without a certificate, in place of each line")
	fl.BoolVar(&table, "table", false, "show all rules by which proxies on its way decide who gets in, in their order, and which one decides")
	a.prints(cmd, []document{{"explain", compiler.Answer{}}, {"code", diag.Entry{}}, {"words", worded{}}, {"logged", compiler.LoggedLines{}}, {"plaintext", compiler.PlaintextCallers{}}}, textForm, jsonForm, yamlForm)
	return cmd
}

// explainNothing says what can be explained, if nothing says what is to be.
func explainNothing(args []string) error {
	if len(args) > 0 {
		return fail(diag.ExitFailure, "required flag(s) \"to\" not set: whom is the request for?\nhelp:  meshc explain --help")
	}
	return fail(diag.ExitFailure, "explain what? --to says whom a request is for\nhelp:  meshc explain --to SERVICE says what becomes of a request; meshc explain WORD what a word of the language is,\n"+
		"       meshc explain CODE what a problem's code means, meshc explain --log FILE which lines of the intent logged requests met")
}

// addressing adds the flags that say who asks for what.
func (a *app) addressing(cmd *cobra.Command, f *intentFlags, r *compiler.Request) {
	fl := cmd.Flags()
	fl.StringVar(&r.From, "from", "", "caller: a service, gateway/name, or nothing for a caller without identity")
	fl.StringVar(&r.To, "to", "", "destination: a service, or gateway/name")
	fl.StringVarP(&r.Namespace, "namespace", "n", "", "namespace of names without one")
	fl.StringVar(&r.Port, "port", "", "name of the destination's port (default: its only one, or its main one)")
	fl.StringVar(&r.Host, "host", "", "Host header")
	fl.StringVarP(&r.Method, "method", "X", "GET", "HTTP method")
	fl.StringVar(&r.Path, "path", "/", "path as sent, or another target: a URI, *, CONNECT's host and port")
	fl.StringVar(&r.HTTP, "http-version", compiler.HTTP11, "version of HTTP that the caller speaks")
	completes(cmd, "from", f.parties(a))
	completes(cmd, "to", f.parties(a))
	cmd.ValidArgsFunction = folderCodeOrWord
	choices(cmd, "http-version", compiler.HTTP10, compiler.HTTP11, compiler.HTTP2)
	fl.StringVar(&r.Source, "source", "", "address of the connection by which it comes (default: one that no rule names)")
	fl.StringVar(&r.Client, "client", "", "address of the visitor, as a gateway sees it (default: what is believed of x-forwarded-for, else the source)")
	fl.StringVar(&r.ServerName, "sni", "", "name that the connection to a port of HTTPS asks for (default: the host)")
	fl.StringVar(&r.Certificate, "certificate", "", "certificate that the visitor shows to a host that asks for one: "+compiler.TrustedCertificate+" for one that it takes, "+compiler.OtherCertificate+" (default: none)")
	choices(cmd, "certificate", compiler.TrustedCertificate, compiler.OtherCertificate)
}

// userFlag is the help of the flag that names tokens.
const userFlag = "end user's token: the provider that signed it, with =" + compiler.OtherAudience + " or =" + compiler.BadToken + " behind it for a wrong one; may be repeated"

// claimFlag is the help of the flag that says what is in them.
const claimFlag = "what an end user's token says, such as corp:groups=staff for provider corp; may be repeated"

// readUsers reads the tokens that a request brings along, and what they say.
func readUsers(r *compiler.Request, said, claims []string) error {
	for _, text := range said {
		u, err := compiler.ReadUser(text)
		if err != nil {
			return fail(diag.ExitFailure, "--user %v", err)
		}
		r.Users = append(r.Users, u)
	}
	for _, text := range claims {
		var err error
		if r.Users, err = compiler.ReadClaim(r.Users, text); err != nil {
			return fail(diag.ExitFailure, "--claim %v", err)
		}
	}
	return nil
}

func isFolder(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// readHeaders reads the headers of a request.
func readHeaders(r *compiler.Request, said []string) error {
	for _, h := range said {
		name, value, ok := strings.Cut(h, "=")
		if !ok {
			return fail(diag.ExitFailure, "-H %q is not name=value", h)
		}
		r.Headers = append(r.Headers, compiler.Header{Name: strings.ToLower(name), Value: value})
	}
	return nil
}

// isCode reports whether a word has the form of a problem's code.
func isCode(word string) bool {
	return len(word) == len(diag.CodeInternal) && strings.HasPrefix(word, "MESH") && strings.Trim(word[4:], "0123456789") == ""
}

// explainCode says what a code means.
func (a *app) explainCode(c diag.Code) error {
	e, ok := diag.About(c)
	if !ok {
		return fail(diag.ExitFailure, "there is no code %s; docs/codes.md has all of them", c)
	}
	if a.form().structured() {
		return a.document(e)
	}
	return printer.Fprintf(a.out, "%s: %s\nFor example: %s\n", e.Code, e.When, e.Example)
}

// noteMethod tells of a method that is almost one: proxies compare letters as they are
// (RFC 9110 section 9.1).
func (a *app) noteMethod(method string) {
	usual := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodConnect, http.MethodTrace}
	if up := strings.ToUpper(method); up != method && slices.Contains(usual, up) {
		printer.Fprintf(a.err, "note: %q is another method than %q, as proxies and applications read them\n", method, up)
	}
}

func (a *app) explain(ans compiler.Answer) error {
	from := ans.Request.From
	if from == "" {
		from = "a caller without identity"
	}
	printer.Fprintf(a.out, "%s %s from %s\n→ %s\n", ans.Request.Method, ans.Request.Target(), from, ans.Words())
	for i, s := range ans.Steps {
		note := ""
		if ans.Outcome.Verdict == "denied" && strings.Count(s.Path, "/") == 2 && strings.HasPrefix(s.Path, "service/") {
			note = ": none of its grants admits this request"
		}
		printer.Fprintf(a.out, "  %d. %s%s\n     %s\n", i+1, s.String(), note, a.at(s.Pos))
	}
	if ans.Moved() {
		printer.Fprintf(a.out, "  arrives as %s\n", ans.Target())
	}
	for _, f := range ans.Outcome.Fields {
		printer.Fprintf(a.out, "  %s: %s%s (%s)\n", f.Feature, strings.TrimSpace(f.Name+" "+f.Value), ans.Then(f), a.writtenAt(ans.Written, f.Feature))
	}
	for _, s := range ans.Outcome.Shares {
		for _, f := range s.Fields {
			printer.Fprintf(a.out, "  %s of what goes to %s: %s (%s)\n", f.Feature, s.Target, strings.TrimSpace(f.Name+" "+f.Value), a.writtenAt(ans.Written, f.Feature))
		}
	}
	for _, b := range ans.Bounds {
		if b.Feature == "" {
			printer.Fprintf(a.out, "  %s: %s%s (default)\n", b.Of, b.After(), b.Words())
		}
	}
	for _, b := range ans.Beside {
		to := strings.TrimSpace(b.To + " " + b.Version)
		for _, f := range b.Fields {
			printer.Fprintf(a.out, "  %s of %s, for all requests: %s (%s)\n", f.Feature, to, strings.TrimSpace(f.Name+" "+f.Value), a.writtenAt(b.Written, f.Feature))
		}
	}
	a.table(ans)
	if ans.NotCalled != "" {
		but := "but"
		if ans.Outcome.Verdict == "denied" {
			but = "and"
		}
		printer.Fprintf(a.out, "  %s %s does not call it: its own proxy has no way there until `calls` names it\n", but, ans.NotCalled)
	}
	return nil
}

// table prints the rules by which proxies decide who gets in.
func (a *app) table(ans compiler.Answer) {
	at := ""
	for _, r := range ans.Access {
		if r.At != at {
			at = r.At
			printer.Fprintf(a.out, "who gets in at %s, in the order in which its proxy asks:\n", at)
		}
		mark, holds := " ", ""
		switch {
		case r.Decides:
			mark, holds = "→", ": holds, and decides"
		case r.Holds:
			holds = ": holds"
		}
		name := r.Rule
		if i := strings.LastIndex(r.Path, "/"+strings.TrimPrefix(r.Rule, "shadow ")+"/"); i >= 0 {
			name += " " + r.Path[i+len("/"+strings.TrimPrefix(r.Rule, "shadow ")+"/"):]
		}
		about := "from " + r.Who
		if r.What != "" {
			about += ": " + r.What
		}
		if r.Rule == "else" {
			about = "refused"
		}
		printer.Fprintf(a.out, "  %s %s: %s%s\n     %s\n", mark, name, about, holds, a.at(r.Pos))
	}
}

// writtenAt says which lines say something of a feature.
func (a *app) writtenAt(lines []compiler.Written, feature string) string {
	var out []string
	for _, w := range lines {
		switch {
		case w.Feature != feature:
		case w.Default:
			out = append(out, "default at "+a.at(w.Pos).String())
		default:
			out = append(out, a.at(w.Pos).String())
		}
	}
	if len(out) == 0 {
		return "default"
	}
	return strings.Join(out, ", ")
}

func (a *app) graphCmd() *cobra.Command {
	var f intentFlags
	var around []string
	cmd := &cobra.Command{
		Use: "graph [DIR]", Short: "Draw who calls whom, and which calls are refused", Args: takes(0, 1),
		Long: `Draw services, gateways and externals, and who calls whom.

A service that has several versions says what each gets of the requests, over all
routes; where mTLS is not strict, the ports that let callers in without a certificate
are named. Namespaces stand apart. A call of which nothing gets through is dashed and
red: as a rule it lacks a grant.

With --around only these are drawn, with who calls them and whom they call.`,
		Example: "  meshc graph -o svg > mesh.svg\n  meshc graph --around 'shop/*' --around pay/ledger",
		RunE: func(cmd *cobra.Command, args []string) error {
			p, err := f.load(cmd.Context(), a, a.meshDir(args))
			if err != nil {
				return err
			}
			g, err := p.Graph()
			if err != nil {
				return err
			}
			if len(around) > 0 {
				if g, err = g.Around(around); err != nil {
					return fail(diag.ExitFailure, "%v", err)
				}
			}
			if a.form().structured() {
				return a.document(g)
			}
			text, err := g.Render(string(a.form()))
			if err != nil {
				return fail(diag.ExitFailure, "%v", err)
			}
			return printer.Fprint(a.out, text)
		},
	}
	f.add(a, cmd)
	a.prints(cmd, []document{{"graph", compiler.Graph{}}}, mermaidForm, dotForm, svgForm, jsonForm, yamlForm)
	cmd.Flags().StringSliceVar(&around, "around", nil, "only these and who is next to them: services, externals, gateway/name, or namespace/*")
	completes(cmd, "around", f.parties(a))
	return cmd
}
