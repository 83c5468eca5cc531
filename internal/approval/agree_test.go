package approval_test

import (
	"strings"
	"testing"

	"meshc.dev/meshc/internal/approval"
)

// Where the rules and the owners of the packages do not agree is told, and where they
// do, nothing is.
func TestDisagreements(t *testing.T) {
	rule := func(threshold int, tags bool, signers string, paths ...string) approval.Rule {
		return approval.Rule{Paths: paths, Signers: strings.Fields(signers), Threshold: threshold, RequireTags: tags}
	}
	root := rule(1, false, "ana", "**")
	part := func(name, owner string, overlays ...string) approval.Part {
		return approval.Part{Name: name, Owner: owner, Folder: name, Files: []string{name + "/" + name + ".cue"}, Overlays: overlays,
			OverlayFolders: []string{"environments/prod/" + name}, Root: name == "."}
	}
	top := approval.Part{Name: ".", Owner: "platform", Folder: ".", Files: []string{"mesh.cue"}, OverlayFolders: []string{"environments/prod"}, Root: true}
	shop, help := part("shop", "team-shop"), part("help", "team-help")
	for name, c := range map[string]struct {
		rules []approval.Rule
		parts []approval.Part
		want  []string
	}{
		"one team": {[]approval.Rule{root}, []approval.Part{top, shop}, nil},
		"all as it should be": {
			[]approval.Rule{root, rule(2, false, "ana ben", "shop/**", "environments/*/shop/**"), rule(1, false, "cid", "help/**", "environments/*/help/**")},
			[]approval.Part{top, shop, help}, nil,
		},
		"two owners under one rule": {
			[]approval.Rule{rule(1, false, "ana", "*"), rule(1, false, "ben", "shop/**", "help/**", "environments/**")},
			[]approval.Part{top, shop, help},
			[]string{`ben may add a file to "environments/prod", which joins package "."`, `the rule for shop/**, help/**, environments/** makes no difference between the owners of packages "shop" of team-shop, "help" of team-help`},
		},
		"no rule": {[]approval.Rule{rule(1, false, "ana", "*")}, []approval.Part{top, shop}, []string{`no rule of the trust policy covers "shop/shop.cue"`}},
		"no rule for an environment": {
			[]approval.Rule{rule(1, false, "ana", "*"), rule(1, false, "ben", "shop/**")}, []approval.Part{part("shop", "team-shop", "environments/prod/shop/a.cue")},
			[]string{`no rule of the trust policy covers "environments/prod/shop/a.cue"`},
		},
		"no rule for an environment without files": {[]approval.Rule{rule(1, false, "ben", "shop/**")}, []approval.Part{shop}, nil},
		"an environment is the root's": {
			[]approval.Rule{root, rule(1, false, "ben", "shop/**")}, []approval.Part{top, part("shop", "team-shop", "environments/prod/shop/a.cue")},
			[]string{`ana may change "environments/prod/shop/a.cue"`},
		},
		"an environment without files is the root's": {[]approval.Rule{root, rule(1, false, "ben", "shop/**")}, []approval.Part{top, shop}, nil},
		"others may add to an environment": {
			[]approval.Rule{root, rule(1, false, "ben", "shop/**"), rule(1, false, "ben mal", "environments/*/shop/*")}, []approval.Part{top, shop},
			[]string{`mal may add a file to "environments/prod/shop"`},
		},
		"fewer signatures for an environment": {
			[]approval.Rule{rule(2, false, "ana ben", "shop/**"), rule(1, false, "ana ben", "environments/*/shop/**")}, []approval.Part{shop},
			[]string{`1 of ana, ben may add a file to "environments/prod/shop"`},
		},
		"no tags for an environment": {
			[]approval.Rule{rule(1, true, "ben", "shop/**"), rule(1, false, "ben", "environments/*/shop/**")}, []approval.Part{shop},
			[]string{`ben without an approval tag may add a file`},
		},
		"one file is another's": {
			[]approval.Rule{rule(1, false, "ben", "shop/**"), rule(1, false, "mal", "*/shop.cue", "shop/shop.cue")}, []approval.Part{shop},
			[]string{`ben may add a file to "shop", but not change "shop/shop.cue"`},
		},
		"a file that is not there is another's": {
			[]approval.Rule{rule(1, false, "ben", "shop/**"), rule(1, false, "mal", "shop/z.cue", "shop/z.md")}, []approval.Part{shop},
			[]string{`mal may change "shop/z.cue", but not change "shop/shop.cue"`},
		},
		"a wildcard takes a file of every package": {
			[]approval.Rule{rule(1, false, "ben", "**"), rule(1, false, "mal", "*/tests.cue")}, []approval.Part{shop},
			[]string{`mal may change "shop/tests.cue"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			ds := approval.Trust{Rules: c.rules}.Disagreements(c.parts)
			if len(ds) != len(c.want) {
				t.Fatalf("%d warnings, not %d: %v", len(ds), len(c.want), ds)
			}
			for i, d := range ds {
				if !strings.HasPrefix(d.Text, c.want[i]) || d.Fix == "" || d.IsError() {
					t.Errorf("%s\n%s\nwant a warning that begins %s", d.Text, d.Fix, c.want[i])
				}
			}
		})
	}
}
