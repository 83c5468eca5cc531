// Command child does what its request says, under the limits of a sandbox. The
// tests build it without the race detector, whose own memory would hit the limits.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"meshc.dev/meshc/internal/sandbox"
)

func main() {
	if len(os.Args) < 2 || os.Args[1] != sandbox.Word {
		os.Exit(2)
	}
	os.Exit(sandbox.Main(os.Args[2:], map[string]sandbox.Handler{"behave": behave}))
}

// behave is a child that does what its request says.
func behave(in []byte) ([]byte, error) {
	word, arg, _ := strings.Cut(string(in), " ")
	switch word {
	case "echo":
		return []byte(arg), nil
	case "refuse":
		return nil, errors.New(arg)
	case "panic":
		panic(arg)
	case "exit":
		os.Exit(7)
	case "env":
		return fmt.Appendf(nil, "%q", os.Environ()), nil
	case "big":
		return bytes.Repeat([]byte("x"), 3<<20), nil
	case "spin":
		for i := 0; ; i++ {
			runtime.KeepAlive(i)
		}
	case "sleep":
		select {}
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = byte(i)
			}
			all = append(all, b)
			runtime.KeepAlive(all)
		}
	case "gulp":
		b := make([]byte, 4<<30)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		return b[:1], nil
	case "keep":
		kept = bytes.Repeat([]byte("x"), 100<<20)
		return []byte("kept"), nil
	case "chatter":
		for range 2000 {
			fmt.Fprintln(os.Stderr, strings.Repeat("noise ", 5000))
		}
		return []byte("fine"), nil
	case "open":
		return nil, openMany(arg)
	}
	return nil, fmt.Errorf("unknown request %q", word)
}

// kept is what stays in use after an answer.
var kept []byte

func openMany(path string) error {
	for range 200 {
		if _, err := os.Open(path); err != nil {
			return err
		}
	}
	return nil
}
