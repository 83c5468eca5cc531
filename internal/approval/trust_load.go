package approval

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/operatorfile"
	"meshc.dev/meshc/internal/printer"
)

// TrustVersion is the format of the file. Another is refused.
const TrustVersion = "meshc.dev/trust/v1"

// The file as written. docs/trust-policy.md describes every field.
type trustFile struct {
	Version      string                     `yaml:"version"`
	Repository   string                     `yaml:"repository"`
	Ref          string                     `yaml:"ref"`
	RootCommit   string                     `yaml:"rootCommit"`
	Anchor       string                     `yaml:"anchor"`
	Environments map[string]environmentFile `yaml:"environments"`
	Signers      map[string]signerFile      `yaml:"signers"`
	Rules        []ruleFile                 `yaml:"rules"`
}

type environmentFile struct {
	Position         string   `yaml:"position"`
	OtherCompiler    string   `yaml:"otherCompiler"`
	Statement        string   `yaml:"statement"`
	Freshness        string   `yaml:"freshness"`
	StatementSigners []string `yaml:"statementSigners"`
	RollbackSigners  []string `yaml:"rollbackSigners"`
}

type signerFile struct {
	Keys      []keyFile `yaml:"keys"`
	NotBefore yaml.Node `yaml:"notBefore"`
	NotAfter  yaml.Node `yaml:"notAfter"`
	Revoked   yaml.Node `yaml:"revoked"`
}

type keyFile struct {
	SSH       string    `yaml:"ssh"`
	PGP       string    `yaml:"pgp"`
	PGPFile   string    `yaml:"pgpFile"`
	NotBefore yaml.Node `yaml:"notBefore"`
	NotAfter  yaml.Node `yaml:"notAfter"`
	Revoked   yaml.Node `yaml:"revoked"`
}

type ruleFile struct {
	Paths       []string  `yaml:"paths"`
	Signers     []string  `yaml:"signers"`
	Threshold   yaml.Node `yaml:"threshold"`
	RequireTags yaml.Node `yaml:"requireTags"`
}

// loader turns the file into a Trust and collects every problem on the way.
type loader struct {
	file  string
	pos   map[string]diag.Pos
	diags diag.List
	keys  map[string]string // fingerprint or material → signer
	// keyFiles are the bytes of the files that the policy names.
	keyFiles []byte
}

// LoadTrust reads a trust policy. With errors in the list, the Trust is zero.
func LoadTrust(path string) (Trust, diag.List) {
	l := &loader{file: filepath.ToSlash(path), keys: map[string]string{}}
	raw, err := operatorfile.Read(path)
	if err != nil {
		return Trust{}, diag.List{diag.New(diag.CodeTrustFile, diag.Pos{File: l.file}, "the trust policy cannot be read: %v", err).
			WithFix("check the path of the file; docs/trust-policy.md describes it")}
	}
	f, ok := l.decode(raw)
	if !ok {
		return Trust{}, l.diags
	}
	t := l.trust(f)
	t.Digest = canon.Digest(slices.Concat(raw, l.keyFiles))
	t.index()
	if l.diags.HasErrors() {
		return Trust{}, l.diags.Sorted()
	}
	return t, l.diags.Sorted()
}

func (l *loader) problem(c diag.Code, at, fix, format string, args ...any) {
	l.diags = append(l.diags, diag.New(c, l.at(at), format, args...).WithFix("%s", fix))
}

// at is the position of a field, or of the nearest one around it.
func (l *loader) at(path string) diag.Pos {
	for {
		if p, ok := l.pos[path]; ok {
			return p
		}
		i := strings.LastIndex(path, ".")
		if i < 0 {
			return diag.Pos{File: l.file, Line: 1, Col: 1}
		}
		path = path[:i]
	}
}

var yamlLine = regexp.MustCompile(`^yaml: line ([0-9]+): `)

func (l *loader) decode(raw []byte) (f trustFile, ok bool) {
	var root yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(&root); err != nil {
		p, text := diag.Pos{File: l.file, Line: 1, Col: 1}, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
			p.Line, _ = strconv.Atoi(m[1]) // digits only
			text = strings.TrimPrefix(err.Error(), m[0])
		}
		if errors.Is(err, io.EOF) {
			text = "it is empty"
		}
		l.diags = append(l.diags, diag.New(diag.CodeTrustFile, p, "the trust policy is no YAML: %s", text).WithFix("docs/trust-policy.md shows one"))
		return f, false
	}
	l.pos = map[string]diag.Pos{}
	l.index(root.Content[0], "", fileShape())
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		l.problem(diag.CodeTrustFile, "", "keep one document in the file", "the file has more than one YAML document")
	}
	if len(l.diags) > 0 {
		return f, false
	}
	if err := root.Decode(&f); err != nil {
		l.problem(diag.CodeTrustFile, "", "docs/trust-policy.md shows the form", "the trust policy cannot be read: %v", err)
	}
	return f, len(l.diags) == 0
}

func (l *loader) trust(f trustFile) Trust {
	t := Trust{Repository: f.Repository, Ref: f.Ref, RootCommit: f.RootCommit, Anchor: f.Anchor,
		Environments: map[string]Environment{}, Signers: map[string]Signer{}}
	if f.Version != TrustVersion {
		l.problem(diag.CodeTrustFile, "version", "write version: "+TrustVersion, "version is %q, this meshc reads %q", f.Version, TrustVersion)
	}
	if reason := wrongName(f.Repository); reason != "" {
		l.problem(diag.CodeTrustValue, "repository", "give the repository's name, such as its URL: signatures are bound to it", "repository %s", reason)
	}
	if err := gitrepo.CheckRef(f.Ref); err != nil {
		l.problem(diag.CodeTrustValue, "ref", "write the full name, such as refs/heads/main", "%v", err)
	}
	if !gitrepo.IsHash(f.RootCommit) {
		l.problem(diag.CodeTrustValue, "rootCommit", "git rev-list --max-parents=0 --first-parent "+f.Ref, "rootCommit %q is not a full commit hash", f.RootCommit)
	}
	if t.Anchor == "" {
		t.Anchor = t.RootCommit
	} else if !gitrepo.IsHash(t.Anchor) {
		l.problem(diag.CodeTrustValue, "anchor", "git rev-parse <commit>", "anchor %q is not a full commit hash", t.Anchor)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Signers)) {
		t.Signers[name] = l.signer(name, f.Signers[name])
	}
	if len(t.Signers) == 0 {
		l.problem(diag.CodeTrustRule, "signers", "add at least one signer with a key", "there are no signers: nothing could ever be approved")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Environments)) {
		t.Environments[name] = l.environment(name, f.Environments[name], t)
	}
	if len(t.Environments) == 0 {
		l.problem(diag.CodeTrustValue, "environments", "add environments: {default: {}}", "there are no environments")
	}
	l.rules(f, &t)
	return t
}

// wrongName says why people could not tell a repository's name from another one.
func wrongName(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "is empty"
	case strings.ContainsAny(name, "\n\r\t"):
		return "is no single line"
	case printer.Escape(name) != name:
		return fmt.Sprintf("%q has characters that cannot be seen", printer.Escape(name))
	case strings.TrimSpace(name) != name:
		return fmt.Sprintf("%q begins or ends with a space", name)
	}
	return ""
}

var plainName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9._]{0,61}[a-z0-9])?$`)

func (l *loader) environment(name string, f environmentFile, t Trust) Environment {
	at := "environments." + name
	e := Environment{Pos: l.at(at), Position: ByDistance, OtherCompiler: RefuseOther, StatementSigners: f.StatementSigners, RollbackSigners: f.RollbackSigners}
	if !plainName.MatchString(name) || name == "approve" || gitrepo.CheckRef("refs/tags/meshc/"+name) != nil {
		l.problem(diag.CodeTrustValue, at, "use lower-case letters, digits and hyphens", "%q is no environment's name", name)
	}
	switch f.Position {
	case "", string(ByDistance):
	case string(ByTag):
		e.Position, e.NeedStatement = ByTag, true
	default:
		l.problem(diag.CodeTrustValue, at+".position", "write tag or distance", "position %q is neither tag nor distance", f.Position)
	}
	switch f.OtherCompiler {
	case "", string(RefuseOther):
	case string(TrustStatement):
		e.OtherCompiler = TrustStatement
	default:
		l.problem(diag.CodeTrustValue, at+".otherCompiler", "write refuse or trustStatement", "otherCompiler %q is neither refuse nor trustStatement", f.OtherCompiler)
	}
	switch f.Statement {
	case "", "optional":
	case "required":
		e.NeedStatement = true
	default:
		l.problem(diag.CodeTrustValue, at+".statement", "write optional or required", "statement %q is neither optional nor required", f.Statement)
	}
	if f.Freshness != "" {
		d, err := time.ParseDuration(f.Freshness)
		if err != nil || d <= 0 {
			l.problem(diag.CodeTrustValue, at+".freshness", "write a duration such as 24h", "freshness %q is no positive duration", f.Freshness)
		}
		e.Freshness = d
	}
	l.known(at+".statementSigners", e.StatementSigners, t)
	l.known(at+".rollbackSigners", e.RollbackSigners, t)
	if e.NeedStatement && len(e.StatementSigners) == 0 {
		l.problem(diag.CodeTrustRule, at, "add statementSigners", "statements are required, but nobody may sign one")
	}
	return e
}

func (l *loader) known(at string, names []string, t Trust) {
	for i, n := range names {
		if _, ok := t.Signers[n]; !ok {
			l.problem(diag.CodeTrustRule, fmt.Sprintf("%s.%d", at, i), "add it under signers, or correct the name", "signer %q is not declared", n)
		}
		if slices.Index(names, n) < i {
			l.problem(diag.CodeTrustRule, fmt.Sprintf("%s.%d", at, i), "remove it", "signer %q stands twice", n)
		}
	}
}

func (l *loader) rules(f trustFile, t *Trust) {
	if len(f.Rules) == 0 {
		l.problem(diag.CodeTrustRule, "rules", `add one such as {paths: ["**"], signers: [...]}`, "there are no rules: every change would be refused")
	}
	where := map[string]string{}
	for i, r := range f.Rules {
		at := fmt.Sprintf("rules.%d", i)
		out := Rule{Paths: r.Paths, Signers: r.Signers, Threshold: l.number("threshold", r.Threshold, 1), RequireTags: l.flag("requireTags", r.RequireTags)}
		l.known(at+".signers", r.Signers, *t)
		switch {
		case len(r.Signers) == 0:
			l.problem(diag.CodeTrustRule, at, "add signers", "the rule names no signers")
		case out.Threshold < 1 || out.Threshold > len(r.Signers):
			l.problem(diag.CodeTrustRule, at+".threshold", fmt.Sprintf("use 1 to %d", len(r.Signers)), "threshold %d with %d signers", out.Threshold, len(r.Signers))
		}
		if len(r.Paths) == 0 {
			l.problem(diag.CodeTrustRule, at, `add paths, such as ["shop/**"]`, "the rule names no paths")
		}
		for j, p := range r.Paths {
			here := fmt.Sprintf("%s.paths.%d", at, j)
			if reason := split(p).wellFormed(); reason != "" {
				l.problem(diag.CodeTrustRule, here, "write names, * for one name, ** at the end", "path %q: %s", p, reason)
			}
			if old, ok := where[p]; ok {
				l.diags = append(l.diags, diag.New(diag.CodeTrustRule, l.at(here), "path %q stands twice: which rule counts?", p).
					WithRelated(l.at(old), "here as well").WithFix("keep it in one rule"))
			}
			where[p] = here
		}
		t.Rules = append(t.Rules, out)
	}
}
