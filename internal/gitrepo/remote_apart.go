package gitrepo

import (
	"context"
	"errors"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/memory"

	"meshc.dev/meshc/internal/diag"
)

// maxRequests bounds the requests that looking for tags that are too much may take.
const maxRequests = 100

// tooMuch says that a pack was refused for what it would cost.
func tooMuch(err error) bool {
	var r *Refused
	return errors.As(err, &r) && r.Code == diag.CodeGitLimit
}

// apart fetches the head by itself and then the tags, in ever smaller groups where
// a group is too much. A tag that is too much alone is not asked for again: whoever
// may push tags must not be able to stop the branch.
func (r *remote) apart(ctx context.Context, into *memory.Storage, s *Snapshot, haves []plumbing.Hash) (int64, error) {
	head := plumbing.NewHash(s.head)
	total, err := r.request(ctx, into, 0, []plumbing.Hash{head}, haves)
	if err != nil {
		return 0, err
	}
	var all []plumbing.Hash
	for _, hash := range s.tags.hashes {
		if h := plumbing.NewHash(hash); !r.dropped[h] && !slices.Contains(all, h) {
			all = append(all, h)
		}
	}
	groups := [][]plumbing.Hash{all}
	haves = append(haves, head)
	for n := 0; len(groups) > 0; n++ {
		if n >= maxRequests {
			return 0, refuse(diag.CodeGitLimit, "tags under "+r.opts.TagPrefix, "too many point to more than a fetch may bring").
				fix("delete the tags that meshc did not make")
		}
		g := groups[0]
		groups = groups[1:]
		size, err := r.request(ctx, into, total, g, haves)
		switch {
		case err == nil:
			total += size
		case !tooMuch(err):
			return 0, err
		case len(g) == 1:
			r.dropped[g[0]] = true
		default:
			groups = append(groups, g[:len(g)/2], g[len(g)/2:])
		}
	}
	return total, nil
}

// request asks for a pack in a session of its own; so much was unpacked before.
func (r *remote) request(ctx context.Context, into *memory.Storage, before int64, wants, haves []plumbing.Hash) (int64, error) {
	sess, err := r.dial(ctx)
	if err != nil {
		return 0, r.failed("connecting to", err)
	}
	defer sess.Close()
	adv, err := sess.AdvertisedReferencesContext(ctx)
	if err != nil {
		return 0, r.failed("asking for the refs of", err)
	}
	limits := r.opts.Limits
	if limits.Inflated -= before; limits.Inflated <= 0 {
		return 0, packLimit("it unpacks to more than %d bytes", r.opts.Limits.Inflated)
	}
	return r.pack(ctx, sess, limits, adv.Capabilities, into, wants, haves)
}
