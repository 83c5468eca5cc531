package durable

import "golang.org/x/sys/unix"

// exchange swaps two names of one file system at once.
func exchange(a, b string) error { return unix.RenamexNp(a, b, unix.RENAME_SWAP) }
