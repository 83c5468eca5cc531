package space

import (
	"encoding/hex"
	"regexp"
	"strings"

	"meshc.dev/meshc/internal/hop"
)

// ParametersDim is the whole query, undecoded, so that a test can say that a parameter is there
// once, or in any spelling.
const ParametersDim Dim = "parameters"

// Around a parameter of a query. Some applications take a semicolon for what parts two, too.
const (
	parametersBefore = `(?:.*&)?`
	parametersBehind = `(?:&.*)?`
	anyParting       = `(?:.*[&;])?`
	anyBehind        = `(?:[&;].*)?`
)

// ParameterTests take the queries in which a parameter is there once, spelt as it is here and like text:
// Exact, Prefix or Present.
func ParameterTests(name string, k Kind, text string) []Test {
	value := "=" + regexp.QuoteMeta(text)
	switch k {
	case Exact:
	case Prefix:
		value += "[^&;]*"
	default:
		value = "(?:=[^&;]*)?"
	}
	spelt := hop.QuerySpellings(name)
	return []Test{
		{Dim: ParametersDim, Any: []Pattern{{Line, parametersBefore + regexp.QuoteMeta(name) + value + parametersBehind}}},
		{Dim: ParametersDim, Any: []Pattern{{Line, anyParting + spelt + `(?:=[^&;]*)?[&;]` + anyParting + spelt + `(?:[=&;].*)?`}}, Not: true},
	}
}

// ParameterSpelt takes the queries in which some value of a parameter is like text, however both
// are spelt.
func ParameterSpelt(name string, k Kind, text string) Test {
	value := "=" + hop.QuerySpellings(text)
	switch k {
	case Exact:
		if text == "" {
			value = "=?"
		}
		value += anyBehind
	case Prefix:
		value += ".*"
	default:
		value = "(?:[=&;].*)?"
	}
	return Test{Dim: ParametersDim, Any: []Pattern{{Line, anyParting + hop.QuerySpellings(name) + value}}}
}

// parameterWords words a test of the whole query, as far as one of those above made it.
func parameterWords(_ string, t Test) string {
	if len(t.Any) != 1 {
		return ""
	}
	with := "with"
	if t.Not {
		with = "without"
	}
	if own, ok := strings.CutPrefix(t.Any[0].Text, parametersBefore); ok {
		name, value, _ := strings.Cut(strings.TrimSuffix(own, parametersBehind), "=")
		words := with + " query " + plainText(strings.TrimSuffix(name, "(?:"))
		if strings.HasSuffix(name, "(?:") { // any value
			return words
		}
		if prefix, ok := strings.CutSuffix(value, "[^&;]*"); ok {
			return words + " " + valueWords(Pattern{Prefix, plainText(prefix)})
		}
		return words + " " + valueWords(Pattern{Exact, plainText(value)})
	}
	own, _ := strings.CutPrefix(t.Any[0].Text, anyParting)
	if name, _, twice := strings.Cut(own, `(?:=[^&;]*)?[&;]`); twice {
		return with + " query " + unspelt(name) + " more than once"
	}
	if name, ok := strings.CutSuffix(own, "(?:[=&;].*)?"); ok {
		return with + " query " + unspelt(name) + " in any spelling"
	}
	name, value, _ := strings.Cut(own, "=")
	words := with + " query " + unspelt(name) + " "
	if exact, ok := strings.CutSuffix(value, anyBehind); ok {
		return words + valueWords(Pattern{Exact, unspelt(strings.TrimPrefix(exact, "?"))}) + " in any spelling"
	}
	return words + valueWords(Pattern{Prefix, unspelt(strings.TrimSuffix(value, ".*"))}) + " in any spelling"
}

// plainText undoes regexp.QuoteMeta.
func plainText(s string) string { return quoted.ReplaceAllString(s, "$1") }

// unspelt is the text of which hop.QuerySpellings made an expression.
func unspelt(s string) string {
	var out strings.Builder
	for _, m := range spelt1.FindAllStringSubmatch(s, -1) {
		switch {
		case m[1] != "":
		case m[2] == "26":
			out.WriteByte('&')
			continue
		case m[2] != "":
			out.WriteByte(';')
			continue
		default:
			out.WriteByte('+')
			continue
		}
		b := []byte{0}
		if _, err := hex.Decode(b, []byte(m[1])); err == nil {
			out.Write(b)
		}
	}
	return out.String()
}

// spelt1 is one character of it: by what it is plainly, or what stands for a blank.
var spelt1 = regexp.MustCompile(`\(\?:(?:\\x([0-9a-f]{2})|%\(\?:25\)\*(26|3\[bB\])|\\\+)`)

var parameters = Dimension{ //nolint:gochecknoglobals // a constant that Go cannot express
	Name:     string(ParametersDim),
	Values:   func(q Request, _ string) []string { return one(q.Query) },
	With:     func(q Request, _, v string) Request { q.Query = v; return q },
	Universe: fixed(`[!"$-~]*`),
	Fixes:    func(q Request, _ string) bool { return q.Query != "" },
	Place:    Addition,
	Words:    parameterWords,
}

// AmongParameters is a test of a parameter as one of the whole query, which says the same.
func (t Test) AmongParameters() (all Test, ok bool) {
	name, ok := t.Dim.Query()
	if !ok {
		return Test{}, false
	}
	written := make([]Pattern, len(t.Any))
	for i, p := range t.Any {
		written[i] = query.Write(&p)
	}
	return Test{Dim: ParametersDim, Any: []Pattern{{Line, FirstParameter(name, written)}}, Not: t.Not}, true
}

// FirstParameter is an expression for the queries whose first parameter of that name
// has a value like one of the patterns, as conditions write them.
func FirstParameter(name string, values []Pattern) string {
	var each []string
	for _, v := range values {
		switch {
		case v.Kind == Present:
			each = append(each, "(?:=.*)?")
			continue
		case v.Matches(""):
			each = append(each, "") // without a sign behind the name
		}
		expression, _ := Without(v.Expression(), "&")
		each = append(each, "=(?:"+ASCII(expression)+")")
	}
	value := "(?:" + strings.Join(each, "|") + ")(?:&.*)?"
	return `(?:` + otherParameter(name) + "&)*" + regexp.QuoteMeta(name) + value
}

// otherParameter is an expression for parameters of other names.
func otherParameter(name string) string {
	out := "[^=&][^&]*" // behind the whole name more of it
	for i := len(name) - 1; i >= 0; i-- {
		next := "(?:" + regexp.QuoteMeta(name[i:i+1]) + "(?:" + out + ")|"
		other := "[^&" + classLetter(name[i]) + "][^&]*"
		out = next + other + ")?"
	}
	return out
}

// classLetter is a letter as it stands in a class.
func classLetter(c byte) string {
	if strings.IndexByte(`\]^-[`, c) >= 0 {
		return `\` + string(c)
	}
	return string(c)
}
