package certstore

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"

	"meshc.dev/meshc/internal/certref"
)

// Names of the files that hold users' keys, and their names with hashes of passwords.
const (
	KeysName      = "keys"
	PasswordsName = "htpasswd"
)

const (
	// shortest is how many characters a key has at least: whoever guesses one has as many tries as he has requests.
	shortest = 16
	// dearest is the cost of bcrypt at most: a quarter of a second for each new password.
	dearest = 12
	// mostAccounts is how many users there may be.
	mostAccounts = 10_000
	// mostRight is how many right passwords are remembered.
	mostRight = 4096
)

// Accounts are users with their keys or passwords.
type Accounts struct {
	text   []byte
	secret [sha256.Size]byte            // of this process: what is remembered is no use elsewhere
	keys   map[[sha256.Size]byte]string // sum of a key → whose it is
	hashes map[string][]byte            // name → bcrypt of its password; nil for keys

	one   chan struct{} // one password is tried at a time, so that guesses take no more than a core
	mu    sync.Mutex
	right map[[sha256.Size]byte]bool // sums of a name with its password
}

// accountsOf reads users line by line. One line that cannot be read refuses all of them, and no
// message tells what stands in it.
func accountsOf(kind certref.Kind, text []byte) (*Accounts, error) {
	a := &Accounts{text: text, keys: map[[sha256.Size]byte]string{}, one: make(chan struct{}, 1), right: map[[sha256.Size]byte]bool{}}
	if kind == certref.Passwords {
		a.hashes = map[string][]byte{}
	}
	if _, err := rand.Read(a.secret[:]); err != nil {
		return nil, err
	}
	users := map[string]bool{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimRight(line, "\r\n")
		if line == "" || line[0] == '#' {
			continue
		}
		user, secret, ok := strings.Cut(line, ":")
		switch {
		case !ok || user == "" || strings.TrimFunc(user, printable) != "" || len(user) > 256:
			return nil, fmt.Errorf("line %d does not begin with a name of printable ASCII and a colon", n)
		case users[user]:
			return nil, fmt.Errorf("line %d has the name of one before", n)
		case len(users) >= mostAccounts:
			return nil, fmt.Errorf("there are more than %d users", mostAccounts)
		}
		users[user] = true
		if err := a.add(user, secret); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if len(users) == 0 {
		return nil, errors.New("there is no user in it: NAME, a colon and a key or a hash are expected")
	}
	return a, nil
}

func printable(r rune) bool { return r > ' ' && r < 0x7f }

func (a *Accounts) add(user, secret string) error {
	if a.hashes != nil {
		cost, err := bcrypt.Cost([]byte(secret))
		if err != nil || cost > dearest {
			return fmt.Errorf("it is no hash by bcrypt of a cost of %d at most: make one by `htpasswd -nB %s`", dearest, user)
		}
		a.hashes[user] = []byte(secret)
		return nil
	}
	if len(secret) < shortest || strings.TrimFunc(secret, printable) != "" {
		return fmt.Errorf("the key has to be of at least %d characters of printable ASCII, without spaces", shortest)
	}
	sum := a.sum(secret)
	if _, there := a.keys[sum]; there {
		return errors.New("the key is somebody else's as well")
	}
	a.keys[sum] = user
	return nil
}

// sum is what is looked up of a secret: how long that takes says nothing of how much of one was guessed.
func (a *Accounts) sum(text string) [sha256.Size]byte {
	h := hmac.New(sha256.New, a.secret[:])
	h.Write([]byte(text))
	return [sha256.Size]byte(h.Sum(nil))
}

// ByKey is whose key that is.
func (a *Accounts) ByKey(key string) (user string, ok bool) {
	user, ok = a.keys[a.sum(key)]
	return user, ok
}

// ByPassword reports whether it is the user's. Right ones are remembered; of others one is tried at a time, and who
// waits until done is closed is refused.
func (a *Accounts) ByPassword(done <-chan struct{}, user, password string) bool {
	hash, ok := a.hashes[user]
	if !ok {
		return false
	}
	sum := a.sum(user + ":" + password)
	a.mu.Lock()
	known := a.right[sum]
	a.mu.Unlock()
	if known {
		return true
	}
	select {
	case a.one <- struct{}{}:
		defer func() { <-a.one }()
	case <-done:
		return false
	}
	if bcrypt.CompareHashAndPassword(hash, []byte(password)) != nil {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.right) >= mostRight {
		clear(a.right)
	}
	a.right[sum] = true
	return true
}

func (a *Accounts) same(c Content) bool {
	o, is := c.(*Accounts)
	return is && bytes.Equal(a.text, o.text)
}

// names tells who the users are, and nothing of their secrets.
func (a *Accounts) names() []string {
	if a.hashes != nil {
		return slices.Sorted(maps.Keys(a.hashes))
	}
	return slices.Sorted(maps.Values(a.keys))
}

func (*Accounts) ends() time.Time        { return time.Time{} }
func (*Accounts) dates(time.Time) string { return "" }

// accountsName is the file that has them.
func accountsName(kind certref.Kind) string {
	if kind == certref.Passwords {
		return PasswordsName
	}
	return KeysName
}

func ofAccounts(kind certref.Kind) bool { return kind == certref.Keys || kind == certref.Passwords }
