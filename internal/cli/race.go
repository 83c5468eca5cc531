//go:build race

package cli

// raceDetector says that the detector is built in. Its own memory does not fit into
// a child's: tests that need the child build meshc without it.
const raceDetector = true
