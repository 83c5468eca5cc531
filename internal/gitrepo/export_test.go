package gitrepo

// PackHash is the hash that names objects and packs.
func PackHash(b []byte) [20]byte { return packHash(b) }
