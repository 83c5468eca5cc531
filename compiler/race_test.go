//go:build race

package compiler_test

// drawnByDefault is how many pairs of meshes TestPlansOfAllWordsAreTrue draws by itself, and
// of repositories TestPlansAreTrue. What the race detector can see is the same in each of
// them, and each takes ten times as long with it.
const drawnByDefault = 15
