package envoy

import (
	"fmt"
	"strings"
)

// BareLua is a script without its comments and indentation: every route with one carries it.
func BareLua(code string) string {
	var out []string
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "\n")
}

// LuaText is a string of Lua.
func LuaText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '"' || c == '\\' || c < ' ' || c > '~':
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// LuaList is a table of Lua with the strings in their order.
func LuaList(list []string) string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = LuaText(s)
	}
	return "{" + strings.Join(out, ", ") + "}"
}
