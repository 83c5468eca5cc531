package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/compiler"
	"meshc.dev/meshc/compiler/release"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/printer"
)

// shown is the configuration of a class of proxies.
type shown struct {
	Class release.Class `json:"class"`
	// Resources are those that were asked for, in the order of types and names.
	Resources []shownResource `json:"resources"`
}

// shownResource is one resource of Envoy's.
type shownResource struct {
	Type release.TypeURL `json:"type"`
	Name string          `json:"name"`
	// Resource is the message as protobuf's JSON, with the names of its fields as Envoy's
	// reference spells them.
	Resource json.RawMessage `json:"resource"`
}

// object is a file of a release that is no configuration of Envoy's.
type object struct {
	Path string `json:"path"`
	Text string `json:"text"`
}

// showFlags say what is shown of a configuration.
type showFlags struct {
	intentFlags
	types []string
	name  string
}

// narrows reports whether a part was asked for.
func (f *showFlags) narrows() bool { return len(f.types) > 0 || f.name != "" }

// wants reports whether a resource was asked for.
func (f *showFlags) wants(typ release.TypeURL, name string) bool {
	return (len(f.types) == 0 || slices.Contains(f.types, shortType(typ))) && (f.name == "" || fits(f.name, name))
}

// fits reports whether a name is what a pattern says, in which * stands for any characters.
func fits(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	rest, begins := strings.CutPrefix(name, parts[0])
	if !begins || len(parts) == 1 {
		return begins && rest == ""
	}
	last := len(parts) - 1
	for _, part := range parts[1:last] {
		_, behind, found := strings.Cut(rest, part)
		if !found {
			return false
		}
		rest = behind
	}
	return strings.HasSuffix(rest, parts[last])
}

// shortType is a type as --type has it: the last part of its name, in small letters.
func shortType(typ release.TypeURL) string {
	return strings.ToLower(typ[strings.LastIndex(typ, ".")+1:])
}

// shownTypes are the words of --type.
func shownTypes() []string {
	var out []string
	for _, typ := range release.Types() {
		out = append(out, shortType(typ))
	}
	return out
}

func (a *app) showCmd() *cobra.Command {
	var f showFlags
	cmd := &cobra.Command{
		Use: "show [DIR] CLASS|FILE", Short: "Print a proxy's exact configuration, or an object of another target", Args: takes(1, 2),
		Long: `Print which resources Envoy gets as a proxy of CLASS, or with --type and --name these in
full. With -o json or yaml it is all of them in full. FILE is an object of another target.`,
		Example: `  meshc show sidecar/bookinfo/bookinfo-reviews
  meshc show sidecar/bookinfo/bookinfo-reviews --type listener
  meshc show --rev v1.2 . gateway/edge/edge --name 'inbound*'
  meshc show kubernetes/bookinfo/service-reviews.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, name := ".", args[len(args)-1]
			if len(args) == 2 {
				dir = args[0]
			}
			for _, t := range f.types {
				if !slices.Contains(shownTypes(), t) {
					return fail(diag.ExitFailure, "--type %q is none of Envoy's: use %s%s", t, list(shownTypes()), diag.DidYouMean(t, shownTypes()))
				}
			}
			p, err := f.load(cmd.Context(), a, dir)
			if err != nil {
				return err
			}
			class, malformed := release.ParseClass(name)
			if malformed != nil && !isObject(name) {
				return noClass(malformed, name, p)
			}
			r, ds := p.Release()
			if err := a.problems(ds); err != nil {
				return err
			}
			if malformed != nil {
				return a.showObject(r, name)
			}
			snap, err := r.Snapshot(class)
			if err != nil {
				return noClass(err, name, p)
			}
			return a.showSnapshot(r, snap, &f)
		},
	}
	f.add(a, cmd)
	a.prints(cmd, []document{{"show", shown{}}, {"object", object{}}}, textForm, jsonForm, yamlForm)
	cmd.Flags().StringSliceVar(&f.types, "type", nil, "only resources of these types: "+list(shownTypes()))
	cmd.ValidArgsFunction = folderOr(f.classes(a))
	choices(cmd, "type", shownTypes()...)
	cmd.Flags().StringVar(&f.name, "name", "", "only resources of this name; * stands for any characters")
	return cmd
}

// noClass ends a command that was asked for a class of proxies that there is not.
func noClass(err error, name string, p *compiler.Program) error {
	known := classesOf(p)
	const most = 12
	told := known
	if len(told) > most {
		told = append(slices.Clone(told[:most]), "…")
	}
	return fail(diag.ExitFailure, "%v; the mesh has %s%s", err, strings.Join(told, ", "), diag.DidYouMean(name, known))
}

// classesOf are the classes of the proxies of a mesh as people write them.
func classesOf(p *compiler.Program) []string {
	var out []string
	for _, c := range p.Classes() {
		out = append(out, c.String())
	}
	return out
}

// isObject reports whether a file of a release is what a target beside Envoy made.
func isObject(name string) bool {
	return strings.HasPrefix(name, "kubernetes/") || strings.HasPrefix(name, "targets/")
}

func (a *app) showObject(r release.Release, name string) error {
	text, ok := r.Artifact(name)
	if !ok {
		var all []string
		for _, p := range r.Paths() {
			if isObject(p) {
				all = append(all, p)
			}
		}
		return fail(diag.ExitFailure, "the release has no file %q; it has: %v", name, all)
	}
	if a.form().structured() {
		return a.document(object{name, string(text)})
	}
	return printer.Fprint(a.out, string(text))
}

func (a *app) showSnapshot(r release.Release, snap release.Snapshot, f *showFlags) error {
	out := shown{Class: snap.Class, Resources: []shownResource{}}
	for _, typ := range release.Types() {
		for _, res := range snap.Resources[typ] {
			if !f.wants(typ, res.Name) {
				continue
			}
			b, err := r.Blob(res.Digest)
			if err != nil {
				return err
			}
			out.Resources = append(out.Resources, shownResource{typ, res.Name, b})
		}
	}
	switch {
	case len(out.Resources) == 0 && f.narrows():
		return fail(diag.ExitFailure, "%s has no such resource; meshc show %s lists what it has", snap.Class, snap.Class)
	case a.form().structured():
		return a.document(out)
	case !f.narrows():
		return a.summary(out)
	}
	for _, res := range out.Resources {
		printer.Fprintf(a.out, "%s %s\n", shortType(res.Type), res.Name)
		printer.Fprint(a.out, string(res.Resource))
	}
	return nil
}

// summary lists what a class of proxies gets.
func (a *app) summary(s shown) error {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	printer.Fprintf(w, "TYPE\tNAME\tBYTES\n")
	for _, res := range s.Resources {
		printer.Fprintf(w, "%s\t%s\t%d\n", shortType(res.Type), res.Name, len(res.Resource))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return printer.Fprintf(a.out, "%s for %s; in full: meshc show %s --type %s, --name NAME or -o json\n", count(len(s.Resources), "resource"), s.Class, s.Class, strings.Join(shownTypes(), "|"))
}
