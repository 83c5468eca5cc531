// Package docs reads the pages of the documentation and runs what they say: every
// command with the real programs, git, ssh-keygen and Envoy, in the order of the page,
// and compares what a page shows with what was printed.
//
// What the first word of a fenced block means:
//
//	sh       commands, each of which ends with 0
//	console  commands behind "$ ", each with what it prints, on both streams. It ends
//	         with 0, or the next command is `echo $?` and shows with what. "…" stands
//	         for anything within a line, a line that is only "…" for any lines
//	others   a file, if the first line is a comment with its path: "// shop/cart.cue"
//
// All blocks of a page are one shell in one home, as if a reader typed them. A block that
// cannot be run has a comment before it that says why: <!-- not run: the reason -->. Ports
// that a page names in <!-- ports: 18000 18001 --> are replaced by free ones. A page with
// <!-- after: approval.md --> goes on where that page ends.
package docs
