package gitrepo

// PackHash is the hash that names objects and packs.
func PackHash(b []byte) [20]byte { return packHash(b) }

// CheckPack is the check that a pack passes before anything of it is unpacked.
func CheckPack(pack []byte, l Limits) (int64, error) { return checkPack(pack, l.orDefault()) }
