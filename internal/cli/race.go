//go:build race

package cli

// raceDetector says that the detector is built in, whose own memory does not fit
// into a child's.
const raceDetector = true
