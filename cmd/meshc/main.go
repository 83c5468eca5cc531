// Command meshc compiles service-mesh intent, plans and approves its changes, and
// serves what was approved.
package main

import (
	"os"

	"meshc.dev/meshc/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
