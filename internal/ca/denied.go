package ca

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// deniedFile is a text file in the state folder: one namespace/account a line,
// what follows a # is a comment.
const deniedFile = "denied"

// Denied returns a check for NewService against the file "denied" in a server's
// state folder, which is read anew for each request: whoever stands there gets no
// certificate and no renewal. Without the file everybody may. A file that cannot
// be read denies everybody: a list that silently does nothing is worse.
func Denied(dir string) func(Identity) error {
	file := filepath.Join(dir, deniedFile)
	return func(who Identity) error {
		list, err := readDenied(file)
		if err != nil {
			return err
		}
		if slices.Contains(list, who) {
			return fmt.Errorf("it stands in %q", file)
		}
		return nil
	}
}

// DeniedIDs returns who stands in that file now, as SPIFFE IDs of the trust domain.
// It is for who keeps streams open that were opened before somebody was denied.
func DeniedIDs(dir, trustDomain string) (map[string]bool, error) {
	list, err := readDenied(filepath.Join(dir, deniedFile))
	if err != nil {
		return nil, err
	}
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return nil, fmt.Errorf("reading who is denied: %w", err)
	}
	out := make(map[string]bool, len(list))
	for _, who := range list {
		id, err := who.SPIFFE(td)
		if err != nil {
			return nil, err
		}
		out[id.String()] = true
	}
	return out, nil
}

func readDenied(file string) ([]Identity, error) {
	raw, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading who is denied: %w", err)
	}
	var out []Identity
	for i, line := range strings.Split(string(raw), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		who, err := ParseIdentity(text)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w; nobody gets a certificate until it is corrected", file, i+1, err)
		}
		out = append(out, who)
	}
	return out, nil
}
