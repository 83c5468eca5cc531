package ca

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/kept"
)

// shared keeps join tokens in one text that several servers replace by comparing: people
// make them, so they are few.
type shared struct {
	store kept.Store
	clock func() time.Time
}

// maxShared bounds the tokens of a text: 256 bytes each, and a Secret has a mebibyte.
const maxShared = 1000

const sharedFormat = "meshc-tokens/v1"

type sharedText struct {
	Format string                 `json:"format"`
	Tokens map[string]sharedToken `json:"tokens"`
}

type sharedToken struct {
	tokenFile
	Used bool `json:"used,omitempty"`
}

func (s *shared) read(ctx context.Context) (kept.Text, sharedText, error) {
	t := sharedText{Format: sharedFormat, Tokens: map[string]sharedToken{}}
	text, err := s.store.Read(ctx)
	if err != nil || text.Data == nil {
		return text, t, err
	}
	dec := json.NewDecoder(bytes.NewReader(text.Data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&t); err != nil || t.Format != sharedFormat || t.Tokens == nil {
		return text, t, problem(diag.New(diag.CodeAuthorityState, diag.Pos{}, "%s has join tokens that this program did not write", s.store).
			WithFix("take the key \"tokens.json\" out of it, and make new tokens"))
	}
	return text, t, nil
}

// change replaces the text by what do makes of it. If somebody else is faster, do is asked
// again about what he wrote.
func (s *shared) change(ctx context.Context, do func(map[string]sharedToken) (bool, error)) error {
	for ctx.Err() == nil {
		text, t, err := s.read(ctx)
		if err != nil {
			return err
		}
		if changed, err := do(t.Tokens); err != nil || !changed {
			return err
		}
		data, err := canon.JSON(t)
		if err != nil {
			return err
		}
		if _, err := s.store.Replace(ctx, text, data); !errors.Is(err, kept.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("replacing the join tokens: %w", ctx.Err())
}

func (s *shared) add(ctx context.Context, name string, f tokenFile) error {
	return s.change(ctx, func(all map[string]sharedToken) (bool, error) {
		s.drop(all)
		if len(all) >= maxShared {
			return false, problem(diag.New(diag.CodeTooManyRequests, diag.Pos{}, "there are %d join tokens already", len(all)).
				WithFix("use them, or wait until some have ended for a day"))
		}
		all[name] = sharedToken{tokenFile: f}
		return true, nil
	})
}

func (s *shared) find(ctx context.Context, name string) (tokenFile, error) {
	_, t, err := s.read(ctx)
	if err != nil {
		return tokenFile{}, err
	}
	return t.Tokens[name].tokenFile, state(t.Tokens, name)
}

func state(all map[string]sharedToken, name string) error {
	switch f, ok := all[name]; {
	case !ok:
		return fs.ErrNotExist
	case f.Used:
		return ErrSpent
	}
	return nil
}

func (s *shared) use(ctx context.Context, name string) error {
	return s.change(ctx, func(all map[string]sharedToken) (bool, error) {
		if err := state(all, name); err != nil {
			return false, err
		}
		f := all[name]
		f.Used = true
		all[name] = f
		return true, nil
	})
}

// sweep has nothing to do: whoever adds a token drops those that are over.
func (s *shared) sweep(context.Context) error { return nil }

func (s *shared) drop(all map[string]sharedToken) {
	for name, f := range all {
		if f.over(s.clock()) {
			delete(all, name)
		}
	}
}
