// Command oidc is a provider of OpenID Connect with one client, whose users are in a file: that of github.com/zitadel/oidc,
// in memory, by HTTPS. Tests have it where operators have Keycloak or a service.
//
// Its page to sign in is a form with the fields id, username and password, which goes to /login/username.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9998", "the `address` that it listens at")
	issuer := flag.String("issuer", "", "the `URL` that tokens say, with a slash at its end")
	cert, key := flag.String("cert", "", "the certificate's `file`"), flag.String("key", "", "the key's `file`")
	client, secret := flag.String("client", "", "the client's `name`"), flag.String("secret", "", "its secret")
	back := flag.String("redirects", "", "the `URLs` to which it sends back, joined by commas")
	users := flag.String("users", "", "the `file` of its users: JSON, a user by ID")
	flag.Parse()
	if err := serve(*listen, *issuer, *cert, *key, storage.WebClient(*client, *secret, strings.Split(*back, ",")...), *users); err != nil {
		fmt.Fprintln(os.Stderr, "oidc:", err)
		os.Exit(1)
	}
}

func serve(listen, issuer, cert, key string, client *storage.Client, users string) error {
	storage.RegisterClients(client)
	known, err := storage.StoreFromFile(users)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	s := &http.Server{
		Addr: listen, ReadHeaderTimeout: 10 * time.Second, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		Handler: exampleop.SetupServer(issuer, storage.NewStorage(known), log, false),
	}
	return s.ListenAndServeTLS(cert, key)
}
