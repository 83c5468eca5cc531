package envoy

import (
	"math/rand/v2"
	"slices"
	"strings"

	"meshc.dev/meshc/compiler/draw"
)

// asker draws the requests that are worth sending to a mesh.
type asker struct {
	*rand.Rand
	mesh *draw.Mesh
	// paths are of all conditions, hosts those of the gateway.
	paths, hosts []string
	// issuer signs for all providers.
	issuer signer
}

// ask draws a mesh, and who asks it.
func ask(seed uint64) *asker {
	a := &asker{Rand: rand.New(rand.NewPCG(seed, 1)), mesh: draw.New(rand.New(rand.NewPCG(seed, 0))), issuer: signer{draw.SigningKey()}}
	for _, p := range a.mesh.Said("#Path", "#GrantPath") {
		a.paths = append(a.paths, strings.NewReplacer("{x}", "a", "{y}", "b", "*", "").Replace(p))
	}
	for _, g := range a.mesh.Gateways {
		a.hosts = append(a.hosts, g.Hosts...)
	}
	return a
}

// secured reports whether the gateway has a port of HTTPS.
func (a *asker) secured() bool {
	return slices.ContainsFunc(a.mesh.Gateways, func(d draw.Door) bool { return slices.Contains(d.Ports, "https") })
}

func (a *asker) chance(percent int) bool { return a.IntN(100) < percent }

func pick[T any](a *asker, xs ...T) T { return xs[a.IntN(len(xs))] }

// some picks a few of xs, at least one.
func some[T any](a *asker, xs []T) []T {
	out := slices.Clone(xs)
	a.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out[:1+a.IntN(len(out))]
}
