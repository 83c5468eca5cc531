package diag

// Code names a kind of problem. Codes are never renumbered or used again.
// Bands: 00xx source, 01xx schema and CUE, 02xx meaning, 03xx targets,
// 04xx policy, 05xx release and approval, 06xx serving, 07xx admission, 08xx plan,
// 09xx internal. Two problems share a code if some refactoring could report
// them from one place.
type Code string
