package resolve

import (
	"slices"
	"strings"
	"time"

	"meshc.dev/meshc/compiler/internal/intent"
	"meshc.dev/meshc/compiler/internal/model"
	"meshc.dev/meshc/internal/diag"
)

// former is an account that a service or a gateway had.
type former struct {
	account string // "namespace/account"
	until   string // as it is written
	at      diag.Pos
}

// formerField is the field of those.
const formerField = "formerAccounts"

// declareFormer enters the accounts that the workloads of id had, ended or not: tables are the same at every date.
func (l *linker) declareFormer(p *pkg, id string, n intent.Node) {
	for _, e := range n.Field(formerField).Fields() {
		l.declared.former[id] = append(l.declared.former[id], former{p.namespace + "/" + e.Name, e.Node.Field("until").Str(), e.Node.Pos()})
	}
}

// accountsOf are the accounts as which a service or a gateway may come: its own and the former ones that have not ended, sorted.
func (l *linker) accountsOf(id string) []string {
	if len(l.declared.former[id]) == 0 {
		return l.accounts[id]
	}
	out := slices.Clone(l.accounts[id])
	for _, f := range l.declared.former[id] {
		end, err := time.Parse(time.RFC3339, f.until)
		if err != nil {
			continue // told where it is read
		}
		l.dates.note(end.UTC(), l.at.After(end))
		if !l.at.After(end) {
			out = append(out, f.account)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// wasAccount reports whether an account is a former one of somebody, ended or not.
func (l *linker) wasAccount(account string) bool {
	for _, fs := range l.declared.former {
		if slices.ContainsFunc(fs, func(f former) bool { return f.account == account }) {
			return true
		}
	}
	return false
}

// runsAs are the accounts of whom n names, without former ones.
func (l *linker) runsAs(p *pkg, n intent.Node) []string {
	return slices.DeleteFunc(slices.Clone(l.caller(p, n)), l.wasAccount)
}

// formerOf reads the former accounts of a carrier, sorted.
func (l *linker) formerOf(n intent.Node) []string {
	var out []string
	for _, e := range l.lasting(n.Field(formerField).Fields()) {
		out = append(out, e.Name)
	}
	slices.Sort(out)
	return out
}

// checkFormer refuses a former account that somebody else has, or had: whoever has it would be taken for both.
func (l *linker) checkFormer() {
	held, accounts := map[string][]string{}, map[string][]string{}
	for id := range l.accounts {
		accounts[id] = l.accountsOf(id)
		for _, account := range accounts[id] {
			held[account] = append(held[account], id)
		}
	}
	for _, id := range sortedKeys(l.declared.former) {
		for _, f := range l.declared.former[id] {
			if !slices.Contains(accounts[id], f.account) {
				continue // it has ended
			}
			others := slices.DeleteFunc(slices.Sorted(slices.Values(held[f.account])), func(other string) bool { return other == id })
			_, name, _ := strings.Cut(f.account, "/")
			switch {
			case name == model.EveryPod:
				l.add(diag.New(diag.CodeFormer, f.at, "former account %q of %q is every pod of the namespace that has no account of its own", f.account, id).
					WithFix("let a version, or a gateway, of its own have the new account, and end the one that runs as %q when nobody comes as it", name))
			case len(others) > 0:
				l.add(diag.New(diag.CodeFormer, f.at, "former account %q of %q is an account of %q: callers would take either for the other", f.account, id, others[0]).
					WithRelated(l.whereIs(others[0]), "the other one").WithFix("let nobody else run as it while it is written"))
			case slices.Contains(l.accounts[id], f.account):
				l.add(diag.New(diag.CodeFormer, f.at, "%q runs as account %q: it is no former one", id, f.account).
					WithFix("delete it, or write the account that it had before in place of %q", name))
			}
		}
	}
}

// whereIs is where a service, or "gateway/" and a gateway, is declared.
func (l *linker) whereIs(id string) diag.Pos {
	if gateway, ok := strings.CutPrefix(id, gatewayPrefix); ok {
		return l.lineOf(model.GatewayPath(gateway))
	}
	return l.declaredAt(id)
}
