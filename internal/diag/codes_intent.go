package diag

// Codes of the source (00xx): the files themselves.
const (
	// CodeNoIntent is a tree without a CUE file.
	// Example: `meshc vet` in an empty folder.
	CodeNoIntent Code = "MESH0001"
	// CodeUnreadable is a file that could not be read.
	// Example: a file without permission to read it.
	CodeUnreadable Code = "MESH0002"
	// CodeSymlink is a symbolic link, or anything else that is neither file nor folder.
	// Example: `shop/extra.cue` is a link to `/etc/passwd`.
	CodeSymlink Code = "MESH0003"
	// CodeFileName is a name that some file systems or tools would read differently.
	// Example: `Shop.cue` beside `shop.cue`.
	CodeFileName Code = "MESH0004"
	// CodeTooLarge is a file, or a tree, above the limits.
	// Example: a CUE file of 2 MiB.
	CodeTooLarge Code = "MESH0005"
	// CodeIgnored warns of a file that meshc does not read.
	// Example: `cue.mod/local-module.cue`.
	CodeIgnored Code = "MESH0006"
	// CodeStaged is a file in git's index for which the commit that gets it would be refused.
	// Example: `git add docs/aux.md`, a link, a submodule.
	CodeStaged Code = "MESH0007"
	// CodeNotCheckedOut is intent that a sparse checkout leaves out of the work tree.
	// Example: `git sparse-checkout set shop`, and `meshc vet`.
	CodeNotCheckedOut Code = "MESH0008"
)

// Codes of schema and CUE (01xx): one package does not say what it may.
const (
	// CodeSyntax is text that is not CUE.
	// Example: `mesh: {`.
	CodeSyntax Code = "MESH0101"
	// CodeUnknownField is a field that the schema does not have.
	// Example: `mesh: service: web: timout: "5s"`.
	CodeUnknownField Code = "MESH0102"
	// CodeValue is a value of the wrong type or form.
	// Example: `timeout: "5 sec"`.
	CodeValue Code = "MESH0103"
	// CodeMissing is a required field that is not there.
	// Example: `mesh: service: web: port: http: {}` has no number.
	CodeMissing Code = "MESH0104"
	// CodeConflict is one field with two values.
	// Example: `timeout: "5s"` in one file and `timeout: "9s"` in another.
	CodeConflict Code = "MESH0105"
	// CodeName is a key of a map that is not a legal name.
	// Example: `mesh: service: Bad_Name: …`.
	CodeName Code = "MESH0106"
	// CodeIncomplete is a value that is still open.
	// Example: `mesh: owner: string`.
	CodeIncomplete Code = "MESH0107"
	// CodeEval is any other error of the evaluation.
	// Example: a division by zero, a structural cycle, an undefined reference.
	CodeEval Code = "MESH0108"
	// CodeImport is an import that is not allowed or not found.
	// Example: `import "tool/exec"`.
	CodeImport Code = "MESH0109"
	// CodeAttribute is an attribute; they change what CUE reads.
	// Example: `secret: _ @embed(file="x.json")`.
	CodeAttribute Code = "MESH0110"
	// CodeNoMesh is a package that does not bind mesh to the schema.
	// Example: a package without `mesh: intent.#Mesh`.
	CodeNoMesh Code = "MESH0111"
	// CodeTopLevel is something at the top of a file that would escape the schema.
	// Example: `intent.#Mesh` on a line of its own, or a field `mehs`.
	CodeTopLevel Code = "MESH0112"
	// CodePackage is a folder whose package clauses do not fit.
	// Example: two files of one folder with different package names.
	CodePackage Code = "MESH0113"
	// CodeEnvironment is an environment that is not declared, or none where one must be chosen.
	// Example: `--env prdo` where the root declares prod and staging.
	CodeEnvironment Code = "MESH0114"
	// CodeVendored warns of a copy of the schema that differs from the compiler's.
	// Example: `cue.mod/pkg/meshc.dev/intent` written by an older meshc.
	CodeVendored Code = "MESH0115"
	// CodeMore counts the problems that are not shown.
	// Example: a package with hundreds of misspelt fields.
	CodeMore Code = "MESH0116"
	// CodeNotTop is a folder that holds a mesh instead of being its top.
	// Example: `meshc vet` in a repository whose mesh is in its folder `intent`.
	CodeNotTop Code = "MESH0117"
	// CodeOverride is an `override` of an environment that replaces nothing.
	// Example: `override: timeout: "5s"` where neither package nor environment has a timeout.
	CodeOverride Code = "MESH0118"
	// CodeModule is a `cue.mod/module.cue` that is no module's, or that asks for another version
	// of the CUE language than meshc reads: an error for a newer one, a warning for an older one.
	// Example: `language: version: "v0.99.0"`.
	CodeModule Code = "MESH0119"
)

// Codes of the limits on an evaluation (012x).
const (
	// CodeMemoryLimit is an evaluation that needed too much memory.
	// Example: `list.Range(0, 20000000, 1)`.
	CodeMemoryLimit Code = "MESH0120"
	// CodeTimeLimit is an evaluation that took too long.
	// Example: twenty embedded disjunctions.
	CodeTimeLimit Code = "MESH0121"
	// CodeOutputLimit is an evaluation with too much output.
	// Example: a structure that doubles itself thirty times.
	CodeOutputLimit Code = "MESH0122"
	// CodeSandbox is a child process that ended for another reason.
	// Example: the child was killed by someone else.
	CodeSandbox Code = "MESH0123"
	// CodeUnlimited warns that this system cannot limit a child's memory and CPU.
	// Example: macOS, where only time and output are limited.
	CodeUnlimited Code = "MESH0124"
	// CodeCompileLimit is a compile that needs more than the operator allows it as a whole.
	// Example: `meshc vet --compile-time 1s` of a mesh that takes longer.
	CodeCompileLimit Code = "MESH0125"
	// CodeNotEvaluated is told of packages that were left out after several others went
	// over their limits.
	// Example: a commit with ten packages that never end.
	CodeNotEvaluated Code = "MESH0126"
)
