//go:build !linux

package redirect

// Set fails: there are pods on Linux only.
func Set() error { return problem("traffic can be redirected on Linux only") }

// Check fails: there are pods on Linux only.
func Check() error { return problem("traffic can be redirected on Linux only") }

func noIPv6() bool { return false }
