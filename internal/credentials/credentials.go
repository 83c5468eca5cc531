// Package credentials reads what a private repository or registry asks for.
//
// In: a folder, as Kubernetes mounts a Secret whose keys are those of Flux's (Flux
// "GitRepository", Secret reference; type kubernetes.io/dockerconfigjson). Out: what
// gitrepo and registry take, read anew each time, so that whoever replaces a Secret
// restarts nothing.
//
// What always holds: no program is run, whatever a file says, and no error has a word of
// what a file holds.
package credentials

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"meshc.dev/meshc/internal/gitrepo"
	"meshc.dev/meshc/internal/operatorfile"
)

// Files of a folder.
const (
	username    = "username"
	password    = "password" // of username, or of identity
	bearerToken = "bearerToken"
	authority   = "ca.crt"
	identity    = "identity"
	knownHosts  = "known_hosts"
	registries  = ".dockerconfigjson"
)

// Folder is a folder of credentials.
type Folder struct{ dir string }

// Open takes a folder that is there; what is in it may come later.
func Open(dir string) (Folder, error) {
	st, err := os.Stat(dir)
	if err == nil && !st.IsDir() {
		err = errors.New("it is no folder")
	}
	return Folder{dir}, err
}

// read gives a file without the line end that editors leave, "" if it is not there.
func (f Folder) read(name string) (string, error) {
	raw, err := operatorfile.Read(filepath.Join(f.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", &gitrepo.AuthError{What: name, Err: errors.New("it cannot be read"), Fix: "let this process's user read " + filepath.Join(f.dir, name)}
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// Git is what a Git host asks for. Errors are *gitrepo.AuthError.
func (f Folder) Git(kind gitrepo.Kind) (gitrepo.Auth, error) {
	has := map[string]string{}
	for _, name := range []string{username, password, bearerToken, authority, identity, knownHosts} {
		text, err := f.read(name)
		if err != nil {
			return gitrepo.Auth{}, err
		}
		has[name] = text
	}
	if kind == gitrepo.SSH {
		return f.ssh(has)
	}
	if has[bearerToken] == "" && (has[username] == "") != (has[password] == "") || has[bearerToken]+has[password]+has[authority] == "" {
		return gitrepo.Auth{}, f.lacks("for https write username and password, or bearerToken")
	}
	return gitrepo.Auth{Username: has[username], Password: has[password], BearerToken: has[bearerToken], CABundle: []byte(has[authority])}, nil
}

func (f Folder) ssh(has map[string]string) (gitrepo.Auth, error) {
	if has[identity] == "" || has[knownHosts] == "" {
		return gitrepo.Auth{}, f.lacks("for ssh write identity (a private key) and known_hosts (from ssh-keyscan, compared with what the server's operator says)")
	}
	return gitrepo.Auth{SSHKey: []byte(has[identity] + "\n"), Passphrase: has[password], KnownHosts: []string{filepath.Join(f.dir, knownHosts)}}, nil
}

func (f Folder) lacks(fix string) error {
	return &gitrepo.AuthError{What: "credentials in " + f.dir, Err: errors.New("what this address needs is not in it"), Fix: fix + " into it, by the names of Flux's Secrets"}
}

// Authority is who may have signed a registry's certificate beside whom the system knows:
// ca.crt, nil for nobody.
func (f Folder) Authority() ([]byte, error) {
	text, err := f.read(authority)
	if err != nil || text == "" {
		return nil, err
	}
	if !x509.NewCertPool().AppendCertsFromPEM([]byte(text)) {
		return nil, &gitrepo.AuthError{What: authority, Err: errors.New("it has no certificate"), Fix: "write the authority's certificates into it, as PEM"}
	}
	return []byte(text), nil
}

// Resolve implements authn.Keychain by the file .dockerconfigjson: the login of the
// longest name that the registry's begins with. Helpers that it names are not run.
func (f Folder) Resolve(of authn.Resource) (authn.Authenticator, error) {
	text, err := f.read(registries)
	if err != nil {
		return nil, err
	}
	if roots, err := f.Authority(); text == "" && len(roots) > 0 {
		return authn.Anonymous, err // a registry that asks for no login
	}
	var config struct {
		Auths map[string]login `json:"auths"`
	}
	if json.Unmarshal([]byte(text), &config) != nil {
		return nil, &gitrepo.AuthError{What: registries, Err: errors.New("it is not what `docker login` writes"), Fix: f.lacksRegistry()}
	}
	var best *login
	most := -1
	for name, l := range config.Auths {
		name = strings.TrimSuffix(strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://"), "/")
		if name == "index.docker.io/v1" {
			name = "index.docker.io"
		}
		if (name == of.RegistryStr() || of.String() == name || strings.HasPrefix(of.String(), name+"/")) && len(name) > most {
			best, most = &l, len(name)
		}
	}
	if best == nil {
		return nil, &gitrepo.AuthError{What: registries, Err: fmt.Errorf("it has no login for %s", of.RegistryStr()), Fix: f.lacksRegistry()}
	}
	c, err := best.config()
	if err != nil {
		return nil, &gitrepo.AuthError{What: registries, Err: fmt.Errorf("its login for %s is damaged", of.RegistryStr()), Fix: f.lacksRegistry()}
	}
	return authn.FromConfig(c), nil
}

func (f Folder) lacksRegistry() string {
	return "make it with `kubectl create secret docker-registry`, whose key is .dockerconfigjson"
}

// login is one entry of a docker configuration.
type login struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"` // base64 of both
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

func (l login) config() (authn.AuthConfig, error) {
	c := authn.AuthConfig{Username: l.Username, Password: l.Password, IdentityToken: l.IdentityToken, RegistryToken: l.RegistryToken}
	if l.Auth == "" {
		return c, nil
	}
	raw, err := base64.StdEncoding.DecodeString(l.Auth)
	user, pass, ok := strings.Cut(string(raw), ":")
	if err != nil || !ok {
		return c, errors.New("damaged")
	}
	c.Username, c.Password = user, pass
	return c, nil
}
