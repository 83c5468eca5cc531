// Package templates has what a CI copies to judge changes of intent and to push what is
// approved: pipelines for GitHub and GitLab, and the scripts that they call, which any
// other CI may call too. docs/ci.md is their manual.
//
// Its tests run every line of it: the jobs as they stand in the files, in checkouts made
// as those systems make them, with the real meshc, real Git and a real registry. The two
// hosts' REST interfaces are played in the test's own process, because the real ones
// cannot be had there: of them only the requests that the scripts make are known to be
// right by their documentation.
package templates
