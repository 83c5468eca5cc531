package agent

import (
	"context"
	"log/slog"
	"path/filepath"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/canon"
	"meshc.dev/meshc/internal/durable"
	"meshc.dev/meshc/internal/hop"
)

// Files of a gRPC program without a proxy, in a folder of its own below the state folder. The program reads them anew
// again and again; a key that does not belong to the certificate yet is left until the next time.
const (
	programFolder = "certificates"
	chainFile     = "tls.crt"
	keyFile       = "tls.key"
	rootsFile     = "ca.crt"
	// readAgain is how often the program looks at them: seldom enough to cost nothing, and often enough for
	// certificates that last minutes.
	readAgain = "5s"
)

// ProgramBootstrap is what a gRPC program without a proxy starts by (GRPC_XDS_BOOTSTRAP, gRFC A27): where its
// configuration and its certificates are, and who it is. cfg must be normalised and NodeID set.
func ProgramBootstrap(cfg Config, who ca.Identity) ([]byte, error) {
	file := func(name string) string { return filepath.Join(cfg.StateDir, programFolder, name) }
	return canon.JSON(obj{
		"xds_servers": []obj{{
			"server_uri":      "unix:" + cfg.ADSSocket,
			"channel_creds":   []obj{{"type": "insecure"}}, // the socket is this user's alone; from the agent on it is mTLS
			"server_features": []string{"xds_v3"},
		}},
		"node": node(cfg, who),
		"certificate_providers": obj{hop.Certificates: obj{"plugin_name": "file_watcher", "config": obj{
			"certificate_file": file(chainFile), "private_key_file": file(keyFile), "ca_certificate_file": file(rootsFile), "refresh_interval": readAgain,
		}}},
		"server_listener_resource_name_template": hop.ServedListener + "%s",
	})
}

// programFiles keeps the files of a gRPC program at the present identity.
type programFiles struct {
	dir  string
	hold *holder
	log  *slog.Logger
}

// run writes them whenever there is another identity, until ctx ends.
func (p *programFiles) run(ctx context.Context, next <-chan struct{}) error {
	for {
		select {
		case <-next:
		case <-ctx.Done():
			return nil
		}
		var err error
		if next, err = p.write(); err != nil {
			// What is there lasts as long again; the next identity is written anew.
			p.log.Error("the program's certificate is not replaced", "error", err)
		}
	}
}

// write writes the present identity; next is closed when there is another.
func (p *programFiles) write() (next <-chan struct{}, err error) {
	s, next := p.hold.get()
	key, err := s.keyPEM()
	if err != nil {
		return next, err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{rootsFile, ca.EncodeCertificates(s.bundle)}, {keyFile, key}, {chainFile, ca.EncodeCertificates(s.chain)}} {
		if err := durable.WriteFile(filepath.Join(p.dir, f.name), f.text, 0o600); err != nil {
			return next, err
		}
	}
	return next, nil
}
