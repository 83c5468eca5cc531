package gitrepo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gitssh "github.com/go-git/go-git/v5/plumbing/transport/ssh"
	"github.com/go-git/go-git/v5/storage/memory"

	"meshc.dev/meshc/internal/diag"
)

// remote keeps what was fetched in memory and asks only for what is new.
type remote struct {
	endpoint *transport.Endpoint
	begin    func(context.Context) (session, error)
	secrets  []string            // of the credentials that are used
	web      transport.Transport // https only
	trusted  []byte              // https only: the roots that web takes beside the system's
	sshAuth  gitssh.AuthMethod   // ssh only
	hosts    hostKeys            // ssh only
	opts     Options
	cache    *cache
	turn     *turn
	objects  *fetched
	inflated int64
	// What a server left out is asked for again, ever more rarely: some of it never comes.
	patience, waited int
	dropped          map[plumbing.Hash]bool // tags that are too much to fetch
}

// session is one conversation with git-upload-pack.
type session interface {
	AdvertisedReferencesContext(context.Context) (*packp.AdvRefs, error)
	UploadPack(context.Context, *packp.UploadPackRequest) (*packp.UploadPackResponse, error)
	Close() error
}

// TransportError is a repository that cannot be read now: a server that could not
// be reached or did not speak Git, files that could not be read. Trying again may help.
type TransportError struct {
	Step string
	Err  error
	// OnDisk says that it is about files of this machine.
	OnDisk bool
}

// Error names the step and the cause. A server may have worded the cause, so that it
// is cut short and cannot act.
func (e *TransportError) Error() string { return e.Step + ": " + short(e.Err.Error()) }

// Unwrap gives the cause.
func (e *TransportError) Unwrap() error { return e.Err }

// Diagnostic is the same as a problem with a code.
func (e *TransportError) Diagnostic() diag.Diagnostic {
	d := diag.New(diag.CodeGitFetch, diag.Pos{}, "%s", e.Error())
	if e.OnDisk {
		return d.WithFix("check the folder, its file system and the rights to read it; meshc keeps serving and tries again")
	}
	fix := wayIn(e.Err)
	if fix == "" {
		fix = "check the address, the network and the credentials"
	}
	return d.WithFix("%s; meshc keeps serving and tries again", fix)
}

func (r *remote) failed(doing string, err error) error {
	return &TransportError{Step: doing + " " + quote(r.endpoint.Host), Err: without(err, r.secrets)}
}

// without is an error whose text has no secret in it: a server may say back what it got.
func without(err error, secrets []string) error {
	text := err.Error()
	for _, s := range secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	if text == err.Error() {
		return err
	}
	return &muted{text, err}
}

// muted is an error in other words.
type muted struct {
	text string
	err  error
}

// Error gives the words.
func (m *muted) Error() string { return m.text }

// Unwrap gives the cause.
func (m *muted) Unwrap() error { return m.err }

func (r *remote) fetch(ctx context.Context, ref string, last *Snapshot) (*Snapshot, error) {
	return inTurn(ctx, r.turn, func(ctx context.Context) (*Snapshot, error) {
		sess, err := r.dial(ctx)
		if err != nil {
			return nil, r.failed("connecting to", err)
		}
		defer sess.Close()
		return r.session(ctx, sess, ref, last)
	})
}

// close has nothing to give back: a session ends with its fetch.
func (r *remote) close() {}

func (r *remote) session(ctx context.Context, sess session, ref string, last *Snapshot) (*Snapshot, error) {
	adv, err := sess.AdvertisedReferencesContext(ctx)
	if err != nil {
		return nil, r.failed("asking for the refs of", err)
	}
	s, err := r.advertised(adv, ref)
	if err != nil {
		return nil, err
	}
	if err := r.complete(ctx, sess, adv.Capabilities, s, last); err != nil {
		return nil, err
	}
	s.store, s.dropped = newStore(r.objects, r.opts.Limits, r.cache, newTurn(0, nil)), maps.Clone(r.dropped)
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
	s.tags.sort()
	if s.head == "" {
		return nil, s.checkHead()
	}
	return s, nil
}

// complete fetches what s names and is not held yet. Past half of the limit it
// begins again with an empty storage; older snapshots keep the old one.
func (r *remote) complete(ctx context.Context, sess session, caps *capability.List, s, last *Snapshot) error {
	before, inflated := r.objects, r.inflated
	var haves []plumbing.Hash
	anew := r.asksAnew(last)
	if last != nil && !anew && inflated <= r.opts.Limits.Inflated/2 {
		haves = append(haves, plumbing.NewHash(last.head))
	} else {
		before, inflated = &fetched{}, 0
	}
	missing := map[plumbing.Hash]bool{plumbing.NewHash(s.head): true}
	for _, h := range s.tags.hashes {
		if !r.dropped[plumbing.NewHash(h)] {
			missing[plumbing.NewHash(h)] = true
		}
	}
	var wants []plumbing.Hash
	for h := range missing {
		if !r.holds(h) || before != r.objects {
			wants = append(wants, h)
		}
	}
	if !anew && !slices.ContainsFunc(wants, func(h plumbing.Hash) bool { return !r.holds(h) }) {
		return nil
	}
	into := memory.NewStorage()
	n, err := r.pack(ctx, sess, r.opts.Limits, caps, into, wants, haves)
	if tooMuch(err) && len(s.tags.names) > 0 {
		into = memory.NewStorage()
		n, err = r.apart(ctx, into, s, haves)
	}
	if err != nil {
		return err
	}
	r.objects, r.inflated = before.with(into.Objects), inflated+n
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
	_, ok := r.objects.byHash[h]
	return ok
}

func (r *remote) pack(ctx context.Context, sess session, limits Limits, caps *capability.List, into *memory.Storage, wants, haves []plumbing.Hash) (int64, error) {
	req := packp.NewUploadPackRequestFromCapabilities(caps)
	req.Wants, req.Haves = wants, haves
	if caps.Supports(capability.NoProgress) {
		if err := req.Capabilities.Set(capability.NoProgress); err != nil {
			return 0, fmt.Errorf("asking for a pack: %w", err)
		}
	}
	answer, err := sess.UploadPack(ctx, req)
	if err != nil {
		return 0, r.failed("fetching from", err)
	}
	defer answer.Close()
	var said note
	pack, err := readPack(demux(req.Capabilities, answer, &said), limits.PackBytes)
	if err != nil {
		return 0, r.refusedOr(said.with(err))
	}
	n, err := checkPack(pack, limits)
	if err != nil {
		return 0, r.refusedOr(said.with(err))
	}
	if err := packfile.UpdateObjectStorage(into, bytes.NewReader(pack)); err != nil {
		return 0, r.failed("fetching from", err)
	}
	return n, nil
}

func (r *remote) refusedOr(err error) error {
	var refused *Refused
	if errors.As(err, &refused) {
		return err
	}
	return r.failed("fetching from", err)
}

func demux(l *capability.List, r io.Reader, progress *note) io.Reader {
	kind := sideband.Sideband64k
	switch {
	case l.Supports(capability.Sideband64k):
	case l.Supports(capability.Sideband):
		kind = sideband.Sideband
	default:
		return r
	}
	d := sideband.NewDemuxer(kind, r)
	d.Progress = progress
	return d
}
