package cli

import (
	"bytes"
	"encoding"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/golden"
)

// schemaDir is where the schemas of the documents are published.
const schemaDir = "../../docs/schemas"

// printed is a kind of document and who prints it.
type printed struct {
	kind     string
	of       reflect.Type
	commands []string
}

// printedByCommands are the kinds of all commands, by name.
func printedByCommands(t *testing.T) map[string]printed {
	t.Helper()
	out := map[string]printed{}
	note := func(d document, command string) {
		p := out[d.kind]
		if of := reflect.TypeOf(d.of); p.of == nil {
			p = printed{kind: d.kind, of: of}
		} else if p.of != of {
			t.Errorf("%s prints a %s of %s, %s one of %s", command, d.kind, of, p.commands[0], p.of)
		}
		p.commands = append(p.commands, command)
		out[d.kind] = p
	}
	for _, cmd := range everyCommand((&app{}).root()) {
		o := outputOf(cmd)
		if o == nil {
			continue
		}
		if json, yaml := slices.Contains(o.forms, jsonForm), slices.Contains(o.forms, yamlForm); !json || !yaml {
			t.Errorf("%s has -o json: %v, -o yaml: %v; it is one document", cmd.CommandPath(), json, yaml)
		}
		note(document{findingsKind, diag.Report{}}, cmd.CommandPath())
		for _, d := range o.documents {
			note(d, cmd.CommandPath())
		}
	}
	if len(out) < 10 {
		t.Fatalf("only %d kinds of documents: %v", len(out), out)
	}
	return out
}

// everyCommand is a command with all below it.
func everyCommand(cmd *cobra.Command) []*cobra.Command {
	out := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		out = append(out, everyCommand(sub)...)
	}
	return out
}

// What commands print for programs has a published schema, drawn from the types that are
// printed, and there is no schema of anything else.
func TestSchemasOfDocuments(t *testing.T) {
	kinds := printedByCommands(t)
	about := comments{packages: map[string]*packageComments{}, t: t}
	var index strings.Builder
	index.WriteString("# Schemas of what `-o json` and `-o yaml` print\n\n" +
		"Each document is an object whose `format` is `meshc.dev/KIND/v1`. Fields are added within a version, never renamed or\n" +
		"removed: a reader has to ignore those that it does not know. A command that fails prints `findings` in place of its own\n" +
		"document.\n\n| Kind | Of | Schema |\n| --- | --- | --- |\n")
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		p := kinds[kind]
		by := "`" + strings.Join(p.commands, "`, `") + "`"
		if kind == findingsKind {
			by = "every command"
		}
		fmt.Fprintf(&index, "| `%s` | %s | [%s.json](%s.json) |\n", kind, by, kind, kind)
		golden.File(t, filepath.Join(schemaDir, kind+".json"), schemaOf(t, p, by, &about))
	}
	golden.File(t, filepath.Join(schemaDir, "README.md"), []byte(index.String()))
	files, err := filepath.Glob(filepath.Join(schemaDir, "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if _, ok := kinds[strings.TrimSuffix(filepath.Base(f), ".json")]; !ok {
			t.Errorf("%s is the schema of nothing that a command prints", f)
		}
	}
}

// schema is a JSON Schema, draft 2020-12.
type schema map[string]any

func schemaOf(t *testing.T, p printed, by string, about *comments) []byte {
	t.Helper()
	d := drawer{t: t, about: about, defs: schema{}}
	s := d.object(p.of)
	s["$schema"], s["$id"], s["title"] = "https://json-schema.org/draft/2020-12/schema", "https://meshc.dev/schemas/"+p.kind+".json", formatOf(p.kind)
	s["description"] = strings.TrimSpace(about.of(p.of).doc + " Printed by " + by + " with -o json or yaml.")
	properties := s["properties"].(schema)
	properties["format"] = schema{"const": formatOf(p.kind)}
	required := append([]string{"format"}, s["required"].([]string)...)
	slices.Sort(required)
	s["required"] = slices.Compact(required)
	if len(d.defs) > 0 {
		s["$defs"] = d.defs
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// drawer draws types as schemas.
type drawer struct {
	t     *testing.T
	about *comments
	defs  schema
}

// byHand are types that are not written as reflection sees them, or not only their
// constants.
func byHand(t reflect.Type) (schema, bool) {
	s, ok := map[string]schema{
		"time.Time":       {"type": "string", "format": "date-time"},
		"time.Duration":   {"type": "integer", "description": "nanoseconds"},
		"json.RawMessage": {},
		"diag.Code":       {"type": "string", "pattern": "^MESH[0-9]{4}$", "description": "see docs/codes.md"},
		"space.Dim":       {"type": "string", "pattern": "^(path|method|host|identity|header:.+|query:.+)$"},
	}[t.String()]
	return s, ok
}

func (d *drawer) of(t reflect.Type) schema {
	if s, ok := byHand(t); ok {
		return s
	}
	if t.Kind() == reflect.Pointer {
		return d.of(t.Elem())
	}
	switch {
	case t.Implements(reflect.TypeFor[json.Marshaler]()) || reflect.PointerTo(t).Implements(reflect.TypeFor[json.Marshaler]()):
		d.t.Errorf("%s writes its JSON itself: add it to byHand", t)
	case t.Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return schema{"type": "string"}
	}
	switch t.Kind() {
	case reflect.Struct:
		if t.Name() == "" {
			return d.object(t)
		}
		name := t.String()
		if _, known := d.defs[name]; !known {
			d.defs[name] = nil // while it is drawn
			s := d.object(t)
			if doc := d.about.of(t).doc; doc != "" {
				s["description"] = doc
			}
			d.defs[name] = s
		}
		return schema{"$ref": "#/$defs/" + name}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return schema{"type": "string", "contentEncoding": "base64"}
		}
		return schema{"type": "array", "items": d.of(t.Elem())}
	case reflect.Map:
		return schema{"type": "object", "additionalProperties": d.of(t.Elem())}
	case reflect.String:
		if values := d.about.of(t).values; len(values) > 0 {
			return schema{"type": "string", "enum": values}
		}
		return schema{"type": "string"}
	case reflect.Bool:
		return schema{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return schema{"type": "number"}
	case reflect.Interface:
		return schema{}
	default:
		if t.ConvertibleTo(reflect.TypeFor[int64]()) {
			return schema{"type": "integer"}
		}
	}
	d.t.Errorf("no schema for %s", t)
	return schema{}
}

// object draws the fields of a struct.
func (d *drawer) object(t reflect.Type) schema {
	properties, required := schema{}, []string{}
	for _, f := range fieldsOf(t) {
		if f.Tag.Get("json") == "" {
			d.t.Errorf("%s.%s has no name as JSON", t, f.StructField.Name)
		}
		s := d.of(f.Type)
		if doc := d.about.of(t).fields[f.StructField.Name]; doc != "" {
			s = maps.Clone(s)
			s["description"] = doc
		}
		if !f.optional && f.Type.Kind() == reflect.Pointer {
			d.t.Errorf("%s.%s may be null: give it omitempty", t, f.StructField.Name)
		}
		properties[f.name] = s
		if !f.optional {
			required = append(required, f.name)
		}
	}
	slices.Sort(required)
	return schema{"type": "object", "properties": properties, "required": required}
}

// comments are what the source says of types.
type comments struct {
	t        *testing.T
	packages map[string]*packageComments
}

type packageComments struct{ types map[string]*typeComments }

// typeComments is what the source says of a type.
type typeComments struct {
	doc    string
	fields map[string]string
	values []string // of its constants, where it is a string
}

const module = "meshc.dev/meshc/"

// of reads the source of a type's package, of this module.
func (c *comments) of(t reflect.Type) *typeComments {
	none := &typeComments{}
	pkg, ours := strings.CutPrefix(t.PkgPath()+"/", module)
	if !ours || t.Name() == "" {
		return none
	}
	if c.packages[pkg] == nil {
		c.packages[pkg] = c.read(filepath.Join("../..", filepath.FromSlash(pkg)))
	}
	if about := c.packages[pkg].types[t.Name()]; about != nil {
		return about
	}
	return none
}

func (c *comments) read(dir string) *packageComments {
	c.t.Helper()
	out := &packageComments{map[string]*typeComments{}}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		c.t.Fatalf("no source in %s: %v", dir, err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, decl := range file.Decls {
			if g, ok := decl.(*ast.GenDecl); ok {
				out.note(g)
			}
		}
	}
	return out
}

func (p *packageComments) at(name string) *typeComments {
	if p.types[name] == nil {
		p.types[name] = &typeComments{fields: map[string]string{}}
	}
	return p.types[name]
}

func (p *packageComments) note(g *ast.GenDecl) {
	for _, spec := range g.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			about := p.at(spec.Name.Name)
			about.doc = sentence(spec.Doc, g.Doc)
			if s, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					for _, name := range f.Names {
						about.fields[name.Name] = sentence(f.Doc, f.Comment)
					}
				}
			}
		case *ast.ValueSpec:
			typ, ok := spec.Type.(*ast.Ident)
			if !ok || g.Tok != token.CONST || len(spec.Values) != 1 {
				continue
			}
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				value, _ := strconv.Unquote(lit.Value) // the parser has read it
				p.at(typ.Name).values = append(p.at(typ.Name).values, value)
			}
		}
	}
}

// sentence is the first of the comments that there is, on one line.
func sentence(docs ...*ast.CommentGroup) string {
	for _, doc := range docs {
		if text := strings.Join(strings.Fields(doc.Text()), " "); text != "" {
			return text
		}
	}
	return ""
}
