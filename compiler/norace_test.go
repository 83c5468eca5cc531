//go:build !race

package compiler_test

// drawnByDefault is how many pairs of meshes TestPlansOfAllWordsAreTrue draws by itself, and
// of repositories TestPlansAreTrue.
const drawnByDefault = 100
