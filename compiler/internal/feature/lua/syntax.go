package lua

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	gopher "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// mistake is one of a script, and how to get rid of it.
type mistake struct{ text, fix string }

// given are the names that every script has, as guard.lua hands them out.
func given() []string {
	return strings.Fields("assert bit error ipairs math next pairs pcall select setmetatable string table tonumber tostring type unpack")
}

const onRequest, onResponse = "envoy_on_request", "envoy_on_response"

// mistakes are what a script can be seen not to mean. It is read as Lua 5.1 with goto, which is what LuaJIT and the
// reader have in common: of what LuaJIT has besides, numbers that end in LL, ULL or i are refused here.
func mistakes(code string) []mistake {
	if len(code) > longest {
		return []mistake{{fmt.Sprintf("it is %d bytes long, of %d at most", len(code), longest), "do less in a proxy"}}
	}
	chunk, err := parse.Parse(strings.NewReader(code), "")
	var main *gopher.FunctionProto
	if err == nil {
		main, err = gopher.Compile(chunk, "")
	}
	if err != nil {
		return []mistake{{reason(err), "write Lua 5.1, with goto"}}
	}
	sets := map[string]bool{}
	var unknown []mistake
	globals(main, gopher.OP_SETGLOBAL, func(name string, _ int) { sets[name] = true })
	all(main, func(f *gopher.FunctionProto) {
		globals(f, gopher.OP_SETGLOBAL, func(name string, _ int) { sets[name] = true })
		if f.NumUpvalues > mostUpvalues {
			unknown = append(unknown, mistake{fmt.Sprintf("the function at Lua line %d uses %d locals of those around it, of %d at most", f.LineDefined, f.NumUpvalues, mostUpvalues), "put some of them into a table"})
		}
	})
	all(main, func(f *gopher.FunctionProto) {
		globals(f, gopher.OP_GETGLOBAL, func(name string, line int) {
			if !sets[name] && !slices.Contains(given(), name) {
				unknown = append(unknown, mistake{fmt.Sprintf("Lua line %d uses %s, which scripts do not have", line, name), "write a local before it, or do without"})
			}
		})
	})
	if !sets[onRequest] && !sets[onResponse] {
		unknown = append(unknown, mistake{"it does nothing: it defines neither " + onRequest + " nor " + onResponse, "write: function " + onRequest + "(handle) … end"})
	}
	return unknown
}

// mostUpvalues is LuaJIT's.
const mostUpvalues = 60

func all(f *gopher.FunctionProto, do func(*gopher.FunctionProto)) {
	do(f)
	for _, inner := range f.FunctionPrototypes {
		all(inner, do)
	}
}

// globals are the names on which a function does what the operation does, with their lines, each once.
func globals(f *gopher.FunctionProto, operation int, do func(name string, line int)) {
	const opcode, constant = 26, 1<<18 - 1 // how the library packs an instruction
	seen := map[string]bool{}
	for i, code := range f.Code {
		if int(code>>opcode) == operation {
			name := f.Constants[code&constant].String()
			if !seen[name] {
				do(name, f.DbgSourcePositions[i])
			}
			seen[name] = true
		}
	}
}

// reason is an error with its line and column in the script.
func reason(err error) string {
	var syntax *parse.Error
	var compile *gopher.CompileError
	switch {
	case errors.As(err, &syntax) && syntax.Pos.Line == parse.EOF:
		return "it ends too early"
	case errors.As(err, &syntax):
		return fmt.Sprintf("Lua line %d, column %d, at %q: %s", syntax.Pos.Line, syntax.Pos.Column, syntax.Token, syntax.Message)
	case errors.As(err, &compile):
		return fmt.Sprintf("Lua line %d: %s", compile.Line, compile.Message)
	}
	return err.Error()
}
