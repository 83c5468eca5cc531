package certstore

import (
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"meshc.dev/meshc/internal/certref"
)

// What is wrong with a file is told by its line, and never by what stands there.
func TestAccountsAreReadAsAWhole(t *testing.T) {
	cheap, err := bcrypt.GenerateFromPassword([]byte("secret-one"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	dear := strings.Replace(string(cheap), "$04$", "$13$", 1)
	for _, c := range []struct {
		what string
		kind certref.Kind
		text string
		want string // "" for none
	}{
		{"keys", certref.Keys, "# ours\n\none:0123456789abcdef\r\ntwo:with:colons:in:the:key\n", ""},
		{"nothing", certref.Keys, "# nobody yet\n", "no user"},
		{"no colon", certref.Keys, "0123456789abcdef\n", "line 1 does not begin with a name"},
		{"no name", certref.Keys, ":0123456789abcdef\n", "line 1 does not begin with a name"},
		{"a name in other letters", certref.Keys, "ana\xff:0123456789abcdef\n", "line 1 does not begin with a name"},
		{"short", certref.Keys, "one:0123456789abcde\n", "line 1: the key has to be of at least 16"},
		{"spaces", certref.Keys, "one:0123456789 abcdef\n", "line 1: the key has to be of at least 16"},
		{"a name twice", certref.Keys, "one:0123456789abcdef\none:0123456789abcdee\n", "line 2 has the name of one before"},
		{"a key twice", certref.Keys, "one:0123456789abcdef\ntwo:0123456789abcdef\n", "line 2: the key is somebody else's"},
		{"a hash", certref.Passwords, "one:" + string(cheap) + "\n", ""},
		{"no hash", certref.Passwords, "one:secret-one\n", "line 1: it is no hash by bcrypt"},
		{"another hash", certref.Passwords, "one:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n", "line 1: it is no hash by bcrypt"},
		{"a dear hash", certref.Passwords, "one:" + dear + "\n", "line 1: it is no hash by bcrypt of a cost of 12"},
	} {
		_, err := accountsOf(c.kind, []byte(c.text))
		switch {
		case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		case err != nil && (strings.Contains(err.Error(), "0123") || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: the message tells a secret: %v", c.what, err)
		}
	}
}

// One password is tried at a time: whoever guesses holds up others who are new, for as long as they wait, and nobody whose
// password was right before.
func TestGuessesHoldUpNobodyWhoIsKnown(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	a, err := accountsOf(certref.Passwords, []byte("ana:"+string(hash)+"\nben:"+string(hash)+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	if !a.ByPassword(done, "ana", "right") || a.ByPassword(done, "ana", "wrong") || a.ByPassword(done, "eve", "right") {
		t.Error("passwords are mixed up")
	}
	a.one <- struct{}{} // somebody's guess is being tried
	close(done)
	if !a.ByPassword(done, "ana", "right") {
		t.Error("who is known waits for the guesses of others")
	}
	if a.ByPassword(done, "ben", "right") || a.ByPassword(done, "ana", "guess") {
		t.Error("two are tried at once")
	}
}
