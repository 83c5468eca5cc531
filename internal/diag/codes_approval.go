package diag

// Codes of approval (05xx): the Git source, what a commit must carry, the
// trust policy, what is kept on disk.
const (
	// CodeGitSource is an address or ref that meshc does not open.
	// Example: `--repo ext::sh -c id`, or `--ref=-upload-pack`.
	CodeGitSource Code = "MESH0500"
	// CodeGitObject is a commit, tag or other Git object that is not well-formed.
	// Example: a commit with two `gpgsig` headers, or a NUL byte in its message.
	CodeGitObject Code = "MESH0501"
	// CodeGitTree is a tree that does not mean the same files on every machine.
	// Example: `Shop.cue` beside `shop.cue`, a symlink, a submodule, an entry called `..`.
	CodeGitTree Code = "MESH0502"
	// CodeGitLimit is a repository that exceeds a limit on bytes, entries or depth.
	// Example: one file of 5 GiB under intent, or a million refs.
	CodeGitLimit Code = "MESH0503"
	// CodeGitMissing is a repository, ref or object that is not there.
	// Example: `ref: refs/heads/main` in a repository whose branch is `master`.
	CodeGitMissing Code = "MESH0504"
	// CodeGitFetch is a repository that cannot be read now: a server or a file that does not answer as it should.
	// Example: the server is down, answers with a redirect, or cuts a pack short; `HEAD` is a pipe.
	CodeGitFetch Code = "MESH0505"
	// CodeArtifact is an artifact that is not what its source says, or that is not unpacked.
	// Example: a tarball whose digest is another than the source's status says, that has a symlink in it, or that unpacks to 5 GiB.
	CodeArtifact Code = "MESH0506"
	// CodeNoEvidence is a source that brings no signed intent, so that nothing proves what it brings.
	// Example: `--repo flux://gitrepository/flux-system/intent`, where the GitRepository follows the intent itself and not what `meshc push` wrote.
	CodeNoEvidence Code = "MESH0507"
	// CodePush is a release that is not pushed because of what is there, or because the other side does not take it.
	// Example: the branch has a release of a later commit, and no signed rollback goes back from that.
	CodePush Code = "MESH0508"

	// CodeNotDescended is a commit that is not on the approved ref or does not follow the last approved one.
	// Example: the branch was force-pushed to an older commit.
	CodeNotDescended Code = "MESH0510"
	// CodeUnsigned is a commit without a signature that the trust policy accepts.
	// Example: `git commit` without `-S` on the approved branch.
	CodeUnsigned Code = "MESH0511"
	// CodeWrongSigner is a signature by somebody who may not approve that path.
	// Example: a member of team shop signs a change of `bookinfo/routes.cue`.
	CodeWrongSigner Code = "MESH0512"
	// CodeKeyNotValid is a signature by a known key that is revoked, expired or not yet valid.
	// Example: a new commit signed after the key's `notAfter`.
	CodeKeyNotValid Code = "MESH0513"
	// CodeThreshold is a change that fewer people approved than its rule asks for.
	// Example: `threshold: 2`, and only the commit's author has signed.
	CodeThreshold Code = "MESH0514"
	// CodeNoRule is a changed path that no rule of the trust policy covers.
	// Example: a new folder `payments/` while the rules name only `bookinfo/**`.
	CodeNoRule Code = "MESH0515"
	// CodeStatement is a release statement that is missing or does not fit the commit.
	// Example: `statement: required`, and no signed tag `meshc/prod/7` names the commit.
	CodeStatement Code = "MESH0516"
	// CodeNotReproduced is a statement or approval whose digests compiling the commit does not give.
	// Example: an approval tag that was made from another working tree.
	CodeNotReproduced Code = "MESH0517"
	// CodeOtherCompiler is a statement or approval by another compiler version than the server's.
	// Example: `meshc approve` of v0.4 and `meshc serve` of v0.5 with `otherCompiler: refuse`.
	CodeOtherCompiler Code = "MESH0518"
	// CodeNotLater is a commit whose place is not later than one that was served before.
	// Example: a statement with `seq: 6` after one with `seq: 7`.
	CodeNotLater Code = "MESH0519"
	// CodeRollback is a rollback record that cannot be used.
	// Example: its `from` is not the last approved commit, or nobody allowed signed it.
	CodeRollback Code = "MESH0520"
	// CodeCommitDate is a commit dated before its parent or in the future.
	// Example: a laptop whose clock runs an hour ahead.
	CodeCommitDate Code = "MESH0521"
	// CodeSteps is a compiled release, or its expiry steps, that do not belong to the commit.
	// Example: a release compiled for environment `staging` offered for `prod`.
	CodeSteps Code = "MESH0522"
	// CodeOtherRepository is evidence made for another repository.
	// Example: a repository whose first commit is not the policy's `rootCommit`.
	CodeOtherRepository Code = "MESH0523"
	// CodeTagIgnored is a pushed rollback record or statement that does not count.
	// Example: a rollback record signed by somebody whom `rollbackSigners` does not name.
	CodeTagIgnored Code = "MESH0524"
	// CodeNoNumber is a statement or rollback record for which no number is left that servers look at.
	// Example: somebody pushed tags `meshc/prod/rollback/1` to `meshc/prod/rollback/1000` that do not count.
	CodeNoNumber Code = "MESH0525"

	// CodeTrustFile is a trust policy that cannot be read as one.
	// Example: `treshold: 2` in a rule.
	CodeTrustFile Code = "MESH0530"
	// CodeTrustKey is a key that the trust policy may not contain.
	// Example: an RSA key of 1024 bits, or `cert-authority` before an SSH key.
	CodeTrustKey Code = "MESH0531"
	// CodeTrustRule is a rule of the trust policy that cannot be satisfied or is ambiguous.
	// Example: `threshold: 3` with two signers, or the same path in two rules.
	CodeTrustRule Code = "MESH0532"
	// CodeTrustValue is a value of the trust policy outside what is allowed.
	// Example: `ref: main` instead of `refs/heads/main`.
	CodeTrustValue Code = "MESH0533"
	// CodeSigningKey is a private key that cannot sign an approval.
	// Example: a key with a passphrase in CI, where nobody can be asked.
	CodeSigningKey Code = "MESH0534"

	// CodeTrustReload is a trust policy that cannot take the place of the one that a server started with.
	// Example: another `ref` or `repository` while the server runs.
	CodeTrustReload Code = "MESH0535"

	// CodeTrustOwners is a rule of the trust policy that does not agree with the owners of the intent (warning).
	// Example: `environments/prod/shop/**` has other signers than `shop/**`.
	CodeTrustOwners Code = "MESH0536"

	// CodeTrustEnvironment is an environment of the trust policy that the intent does not declare (warning).
	// Example: the policy says `production`, the root package `environment: prod: {}`; nothing can be served as either.
	CodeTrustEnvironment Code = "MESH0537"

	// CodeStoredApproval is an approval on disk that is damaged.
	// Example: one flipped byte in the last good release; the one before is used.
	CodeStoredApproval Code = "MESH0540"
	// CodeStale is a source whose newest signed evidence is older than the policy's `freshness`.
	// Example: a Git mirror that stopped following its upstream.
	CodeStale Code = "MESH0541"
)
