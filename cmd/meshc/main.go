// Command meshc compiles service-mesh intent, plans and approves its changes, and
// serves what was approved.
package main

import (
	"os"

	"meshc.dev/meshc/internal/cli"
	"meshc.dev/meshc/internal/compile"
	"meshc.dev/meshc/internal/sandbox"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == sandbox.Word {
		os.Exit(compile.Main(os.Args[2:]))
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
