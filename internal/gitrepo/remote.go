package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/storage/memory"

	"meshc.dev/meshc/internal/diag"
)

// remote keeps what was fetched in memory and asks only for what is new.
type remote struct {
	endpoint *transport.Endpoint
	client   transport.Transport
	auth     transport.AuthMethod
	opts     Options
	cache    *cache
	objects  *memory.Storage
	inflated int64
	// What a server left out is asked for again, ever more rarely: some of it never comes.
	patience, waited int
	dropped          map[plumbing.Hash]bool // tags that are too much to fetch
}

// TransportError is a server that could not be reached or did not speak Git;
// trying again may help.
type TransportError struct {
	Step string
	Err  error
}

// Error names the step and the cause.
func (e *TransportError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Diagnostic is the same as a problem with a code.
func (e *TransportError) Diagnostic() diag.Diagnostic {
	return diag.New(diag.CodeGitFetch, diag.Pos{}, "%s", e.Error()).
		WithFix("check the address, the network and the credentials; meshc keeps serving and tries again")
}

func (r *remote) fetch(ctx context.Context, ref string, last *Snapshot) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Timeout)
	defer cancel()
	type result struct {
		s   *Snapshot
		err error
	}
	sess, err := r.connect(ctx)
	if err != nil {
		return nil, &TransportError{"connecting to " + quote(r.endpoint.Host), err}
	}
	done := make(chan result, 1)
	go func() {
		s, err := r.session(ctx, sess, ref, last)
		done <- result{s, err}
	}()
	var res result
	select {
	case res = <-done:
		_ = sess.Close() // the answer is complete
	case <-ctx.Done():
		// The transport looks at ctx between reads only; closing the session is
		// what ends a server that sends nothing at all.
		_ = sess.Close()
		res = <-done
	}
	if res.err != nil && ctx.Err() != nil {
		return nil, &TransportError{"fetching from " + quote(r.endpoint.Host), ctx.Err()}
	}
	return res.s, res.err
}

// connect gives up with ctx, though an SSH handshake by itself would not.
func (r *remote) connect(ctx context.Context) (transport.UploadPackSession, error) {
	type result struct {
		s   transport.UploadPackSession
		err error
	}
	done := make(chan result, 1)
	go func() {
		s, err := r.client.NewUploadPackSession(r.endpoint, r.auth)
		done <- result{s, err}
	}()
	select {
	case res := <-done:
		return res.s, res.err
	case <-ctx.Done():
		go func() {
			if res := <-done; res.err == nil {
				_ = res.s.Close() // nobody waits for it any more
			}
		}()
		return nil, ctx.Err()
	}
}

// close has nothing to give back: a session ends with its fetch.
func (r *remote) close() {}

func (r *remote) session(ctx context.Context, sess transport.UploadPackSession, ref string, last *Snapshot) (*Snapshot, error) {
	adv, err := sess.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, &TransportError{"asking " + quote(r.endpoint.Host) + " for its refs", err}
	}
	s, err := r.advertised(adv, ref)
	if err != nil {
		return nil, err
	}
	if err := r.complete(ctx, sess, adv.Capabilities, s, last); err != nil {
		return nil, err
	}
	s.store, s.dropped = newStore(fetched{r.objects}, r.opts.Limits, r.cache), maps.Clone(r.dropped)
	s.index()
	return s, nil
}

func (r *remote) advertised(adv *packp.AdvRefs, ref string) (*Snapshot, error) {
	if len(adv.References) > r.opts.Limits.Refs {
		return nil, tooManyRefs(r.opts.Limits)
	}
	s := newSnapshot(ref, nil)
	s.head = adv.References[ref].String()
	if _, ok := adv.References[ref]; !ok {
		s.head = ""
	}
	for name, h := range adv.References {
		if err := s.takeTag(name, h.String(), r.opts); err != nil {
			return nil, err
		}
	}
	if s.head == "" {
		return nil, s.checkHead()
	}
	return s, nil
}

// complete fetches what s names and is not held yet. Past half of the limit it
// begins again with an empty storage; older snapshots keep the old one.
func (r *remote) complete(ctx context.Context, sess transport.UploadPackSession, caps *capability.List, s, last *Snapshot) error {
	objects, inflated := r.objects, r.inflated
	var haves []plumbing.Hash
	anew := r.asksAnew(last)
	if last != nil && !anew && inflated <= r.opts.Limits.Inflated/2 {
		haves = append(haves, plumbing.NewHash(last.head))
	} else {
		objects, inflated = memory.NewStorage(), 0
	}
	missing := map[plumbing.Hash]bool{plumbing.NewHash(s.head): true}
	for _, h := range s.tags {
		if !r.dropped[plumbing.NewHash(h)] {
			missing[plumbing.NewHash(h)] = true
		}
	}
	var wants []plumbing.Hash
	for h := range missing {
		if !r.holds(h) || objects != r.objects {
			wants = append(wants, h)
		}
	}
	if !anew && !slices.ContainsFunc(wants, func(h plumbing.Hash) bool { return !r.holds(h) }) {
		return nil
	}
	n, err := r.pack(ctx, sess, r.opts.Limits, caps, objects, wants, haves)
	if tooMuch(err) && len(s.tags) > 0 {
		n, err = r.apart(ctx, objects, s, haves)
	}
	if err != nil {
		return err
	}
	r.objects, r.inflated = objects, inflated+n
	return nil
}

// asksAnew says whether objects that the last snapshot lacked are to be fetched
// again, with everything else.
func (r *remote) asksAnew(last *Snapshot) bool {
	if last == nil || !last.store.incomplete.Load() {
		r.patience, r.waited = 0, 0
		return false
	}
	if r.waited++; r.waited <= r.patience {
		return false
	}
	r.patience, r.waited = min(2*r.patience+1, 255), 0
	return true
}

func (r *remote) holds(h plumbing.Hash) bool {
	_, err := r.objects.EncodedObjectSize(h)
	return err == nil
}

func (r *remote) pack(ctx context.Context, sess transport.UploadPackSession, limits Limits, caps *capability.List, into *memory.Storage, wants, haves []plumbing.Hash) (int64, error) {
	req := packp.NewUploadPackRequestFromCapabilities(caps)
	req.Wants, req.Haves = wants, haves
	if caps.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return 0, fmt.Errorf("asking for a pack: %w", err)
		}
	}
	step := "fetching from " + quote(r.endpoint.Host)
	answer, err := sess.UploadPack(ctx, req)
	if err != nil {
		return 0, &TransportError{step, err}
	}
	defer answer.Close()
	pack, err := readPack(demux(req.Capabilities, answer), limits.PackBytes)
	if err != nil {
		return 0, wrapTransport(step, err)
	}
	n, err := checkPack(pack, limits)
	if err != nil {
		return 0, wrapTransport(step, err)
	}
	if err := packfile.UpdateObjectStorage(into, bytes.NewReader(pack)); err != nil {
		return 0, &TransportError{step, err}
	}
	return n, nil
}

func wrapTransport(step string, err error) error {
	var refused *Refused
	if errors.As(err, &refused) {
		return err
	}
	return &TransportError{step, err}
}

func demux(l *capability.List, r io.Reader) io.Reader {
	switch {
	case l.Supports(capability.Sideband64k):
		return sideband.NewDemuxer(sideband.Sideband64k, r)
	case l.Supports(capability.Sideband):
		return sideband.NewDemuxer(sideband.Sideband, r)
	}
	return r
}
