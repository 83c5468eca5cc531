package draw

import (
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"regexp/syntax"
	"slices"
	"strconv"
	"strings"

	"cuelang.org/go/cue/ast"
	"cuelang.org/go/cue/literal"
	"cuelang.org/go/cue/token"

	"meshc.dev/meshc/compiler/internal/schema"
)

// pen draws the values of one line and notes what it says.
type pen struct {
	*rand.Rand
	said   map[string][]string
	fields map[string]bool
	sought map[string]bool
}

// leads reports whether a field is sought, or something in it.
func leads(sought map[string]bool, path string) bool {
	for s := range sought {
		if s == path || strings.HasPrefix(s, path+".") {
			return true
		}
	}
	return false
}

func (p *pen) chance(percent int) bool { return p.IntN(100) < percent }

func pick[T any](p *pen, xs ...T) T { return xs[p.IntN(len(xs))] }

// some picks up to most of xs, at least one, in a random order.
func some[T any](p *pen, most int, xs []T) []T {
	out := slices.Clone(xs)
	p.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:1+p.IntN(min(most, len(out)))]
}

// place is where a value stands: the definition around it, its field there, and the way to it.
type spot struct{ owner, field, path string }

func (s spot) in(owner, field string) spot {
	return spot{owner: owner, field: field, path: strings.TrimPrefix(s.path+"."+field, ".")}
}

// value draws the value of a field.
func (p *pen) value(f schema.Field, at spot) string {
	p.fields[at.path] = true
	return p.expr(f.Value, f.Holds, at)
}

// expr draws a value of the form that an expression of the schema has.
func (p *pen) expr(e ast.Expr, holds *schema.Definition, at spot) string {
	if holds != nil {
		return p.structure(holds, at.owner, at)
	}
	switch e := e.(type) {
	case *ast.Ident:
		return p.named(e.Name, at)
	case *ast.BasicLit:
		return e.Value
	case *ast.ListLit:
		return p.list(e, at)
	case *ast.UnaryExpr:
		return p.pattern("", e, at)
	case *ast.BinaryExpr:
		if e.Op == token.OR {
			return p.expr(pick(p, e.X, e.Y), nil, at)
		}
		return p.number(e, at)
	}
	panic(fmt.Sprintf("draw: the schema's form %T at %s is new: draw it", e, at.path))
}

// named draws a value of a definition, or of one of CUE's own types.
func (p *pen) named(name string, at spot) string {
	d := schema.Definitions()[name]
	if d != nil && d.Expr == nil {
		return p.structure(d, name, at)
	}
	if words := alphabet(name, at); words != nil {
		return p.word(name, pick(p, words...), name == "int" || name == "bool" || d != nil && isNumber(d.Expr))
	}
	if u, ok := d.Expr.(*ast.UnaryExpr); ok {
		return p.pattern(name, u, at)
	}
	return p.expr(d.Expr, nil, at)
}

// word notes a word and writes it.
func (p *pen) word(kind, w string, bare bool) string {
	p.said[kind] = append(p.said[kind], w)
	if bare {
		return w
	}
	return strconv.Quote(w)
}

func isNumber(e ast.Expr) bool {
	_, ok := e.(*ast.BinaryExpr)
	return ok
}

// pattern draws a string that an expression =~"…" takes.
func (p *pen) pattern(name string, u *ast.UnaryExpr, at spot) string {
	if words := alphabet(name, at); words != nil {
		return p.word(name, pick(p, words...), false)
	}
	text, err := literal.Unquote(u.X.(*ast.BasicLit).Value)
	if err != nil {
		panic(fmt.Sprintf("draw: the schema's pattern at %s: %v", at.path, err))
	}
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		panic(fmt.Sprintf("draw: the schema's pattern at %s: %v", at.path, err))
	}
	return p.word(name, p.sample(re.Simplify()), false)
}

// several is how often something is repeated that may be repeated for ever.
const several = 2

// sample draws a short string that an expression takes.
func (p *pen) sample(re *syntax.Regexp) string {
	var b strings.Builder
	times := func(least, most int) {
		for range least + p.IntN(most-least+1) {
			b.WriteString(p.sample(re.Sub[0]))
		}
	}
	switch re.Op {
	case syntax.OpLiteral:
		b.WriteString(string(re.Rune))
	case syntax.OpCharClass:
		i := 2 * p.IntN(len(re.Rune)/2)
		lo, hi := re.Rune[i], min(re.Rune[i+1], re.Rune[i]+25)
		b.WriteRune(lo + rune(p.IntN(int(hi-lo)+1)))
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		b.WriteString(pick(p, "a", "b", "-"))
	case syntax.OpStar:
		times(0, several)
	case syntax.OpPlus:
		times(1, several)
	case syntax.OpQuest:
		times(0, 1)
	case syntax.OpCapture:
		times(1, 1)
	case syntax.OpConcat:
		for _, s := range re.Sub {
			b.WriteString(p.sample(s))
		}
	case syntax.OpAlternate:
		b.WriteString(p.sample(pick(p, re.Sub...)))
	}
	return b.String()
}

// number draws a whole number within the bounds of `int & >=1 & <=10 & !=4`: an end, or
// something in between.
func (p *pen) number(e ast.Expr, at spot) string {
	lo, hi, not := int64(math.MinInt32), int64(math.MaxInt32), []int64{}
	var read func(ast.Expr)
	read = func(e ast.Expr) {
		switch e := e.(type) {
		case *ast.BinaryExpr:
			read(e.X)
			read(e.Y)
		case *ast.UnaryExpr:
			n, err := strconv.ParseInt(number(e.X), 10, 64)
			if err != nil {
				panic(fmt.Sprintf("draw: the schema's bound at %s: %v", at.path, err))
			}
			switch e.Op {
			case token.GEQ:
				lo = n
			case token.LEQ:
				hi = n
			case token.NEQ:
				not = append(not, n)
			default:
				panic(fmt.Sprintf("draw: the schema's bound %s at %s is new: draw it", e.Op, at.path))
			}
		}
	}
	read(e)
	for {
		n := pick(p, lo, hi, lo+p.Int64N(hi-lo+1))
		if !slices.Contains(not, n) {
			return strconv.FormatInt(n, 10)
		}
	}
}

// number is a literal's text, with its sign.
func number(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		return e.Value
	case *ast.UnaryExpr:
		return e.Op.String() + number(e.X)
	}
	return ""
}

// list draws a list of one to three distinct values.
func (p *pen) list(l *ast.ListLit, at spot) string {
	rest, ok := l.Elts[0].(*ast.Ellipsis)
	if !ok {
		panic(fmt.Sprintf("draw: the schema's list at %s is new: draw it", at.path))
	}
	var out []string
	for range pick(p, 1, 1, 2, 3) {
		if v := p.expr(rest.Type, nil, at); !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// structure draws a struct or a map.
func (p *pen) structure(d *schema.Definition, name string, at spot) string {
	var out []string
	if d.Pattern != nil {
		seen := map[string]bool{}
		for range pick(p, 1, 1, 2) {
			key := p.named(d.Pattern.Name, at)
			if !seen[key] {
				seen[key] = true
				out = append(out, key+": "+p.expr(d.Pattern.Value, d.Pattern.Holds, at))
			}
		}
	}
	for _, field := range p.choose(d, at) {
		if name == "#Users" && field == "login" {
			continue // the scaffold writes it where browsers can come back
		}
		f, _ := d.Field(field)
		out = append(out, strconv.Quote(field)+": "+p.value(f, at.in(name, field)))
	}
	return "{" + strings.Join(out, ", ") + "}"
}

// account are the fields that go together: who answers for what ends.
func account() []string { return []string{"owner", "reason", "until"} }

// choose picks fields of a struct: those that must be there, of those of which one must be
// there at least one, of others a few; what is sought before all others.
func (p *pen) choose(d *schema.Definition, at spot) []string {
	if d.Pattern != nil {
		return nil
	}
	var must, may []string
	for _, n := range d.Names() {
		if f, _ := d.Field(n); f.Required {
			must = append(must, n)
		} else {
			may = append(may, n)
		}
	}
	whole := true
	for _, n := range account() {
		whole = whole && slices.Contains(may, n)
	}
	if whole {
		may = slices.DeleteFunc(may, func(n string) bool { return slices.Contains(account(), n) })
		if p.chance(40) {
			must = append(must, account()...)
		}
	}
	sought := func(n string) bool { return leads(p.sought, at.in("", n).path) }
	for _, c := range choices(d.Doc, may) {
		if found := keep(c.of, sought); len(found) > 0 {
			may = slices.DeleteFunc(may, func(n string) bool { return slices.Contains(c.of, n) })
			must = append(must, some(p, c.most, found)...)
			continue
		}
		may = slices.DeleteFunc(may, func(n string) bool { return slices.Contains(c.of, n) })
		if c.least > 0 || p.chance(75) {
			must = append(must, some(p, c.most, c.of)...)
		}
	}
	must = append(must, keep(may, sought)...)
	switch {
	case len(may) == 0:
	case len(must) == 0:
		must = append(must, some(p, pick(p, 1, 1, 2, len(may)), may)...)
	case p.chance(60):
		must = append(must, some(p, pick(p, 1, 2, len(may)), may)...)
	}
	slices.Sort(must)
	return slices.Compact(must)
}

// keep are those of xs that fit.
func keep(xs []string, fit func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(xs), func(x string) bool { return !fit(x) })
}

// choice is fields of which so many are written.
type choice struct {
	least, most int
	of          []string
}

var choiceText = regexp.MustCompile(`(exactly|at least|at most) one of ((?:the fields|[a-zA-Z]+)(?:(?:, | and | or )[a-zA-Z]+)*)`)

// choices reads what the words of a definition say of its fields.
func choices(doc string, fields []string) []choice {
	var out []choice
	for _, m := range choiceText.FindAllStringSubmatch(doc, -1) {
		of := fields
		if m[2] != "the fields" {
			of = slices.DeleteFunc(strings.FieldsFunc(m[2], func(r rune) bool { return r == ',' || r == ' ' }), func(w string) bool { return !slices.Contains(fields, w) })
		}
		c := choice{least: 1, most: 1, of: slices.Clone(of)}
		switch m[1] {
		case "at least":
			c.most = several
		case "at most":
			c.least = 0
		}
		if len(of) > 0 {
			out = append(out, c)
		}
	}
	return out
}
