package cli

import (
	"time"

	"github.com/spf13/cobra"

	"meshc.dev/meshc/internal/ca"
	"meshc.dev/meshc/internal/kubeapi"
	"meshc.dev/meshc/internal/kubesecret"
	"meshc.dev/meshc/internal/printer"
)

// joinToken is a token that was made.
type joinToken struct {
	Token string `json:"token"`
	// Fingerprint is that of the server's root, by which the agent knows the server.
	Fingerprint string `json:"fingerprint"`
	// Identity is the SPIFFE ID that the agent gets.
	Identity string `json:"identity"`
	// Until is when the token is of no use any more.
	Until time.Time `json:"until"`
}

func (a *app) tokenCmd() *cobra.Command {
	var state, identity, shares string
	var by kubeapi.Account
	var ttl time.Duration
	create := &cobra.Command{
		Use: "create --identity NAMESPACE/ACCOUNT", Short: "Make a one-time token with which an agent gets its identity", Args: takes(0, 0),
		Long: `Make a token in the state folder of a server on this machine, or with --authority in the
Secret of servers that share one. An agent that shows it once, in time, gets a certificate
for this identity: hand it over like a password.`,
		Example: `  meshc token create --identity bookinfo/reviews-v1 --ttl 10m
  meshc token create --identity hosts/billing --authority secret/meshc-system/meshc-authority --kubeconfig ~/.kube/config`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cluster, err := sharing(cmd.Context(), shares, by)
			if err != nil {
				return err
			}
			where, err := shared(cluster, shares, kubesecret.RootsKey)
			if err != nil {
				return err
			}
			authority, err := ca.Open(cmd.Context(), state, ca.Options{Clock: a.now, Roots: where})
			if err != nil {
				return err
			}
			id, err := ca.ParseIdentity(identity)
			if err != nil {
				return err
			}
			spiffe, err := id.SPIFFE(authority.TrustDomain())
			if err != nil {
				return err
			}
			tokens, err := joinTokens(cluster, shares, state, a.now)
			if err != nil {
				return err
			}
			token, err := tokens.Create(cmd.Context(), spiffe, ttl)
			if err != nil {
				return err
			}
			made := joinToken{Token: token, Fingerprint: authority.Fingerprints()[0], Identity: spiffe.String(), Until: a.now().Add(ttl).UTC().Truncate(time.Second)}
			if a.form().structured() {
				return a.document(made)
			}
			return printer.Fprintf(a.out, "token:       %s\nfingerprint: %s\nidentity:    %s\nvalid for:   %s, once\n", made.Token, made.Fingerprint, made.Identity, ttl)
		},
	}
	addState(create, &state, serverState, "the server's state folder")
	create.Flags().StringVar(&shares, "authority", "", "secret/NAMESPACE/NAME: what the servers have for --authority, instead of a state folder")
	create.Flags().StringVar(&by.Kubeconfig, "kubeconfig", "", "file that leads to its cluster")
	create.Flags().BoolVar(&by.InCluster, "in-cluster", false, "it is the cluster in which this process is a pod")
	create.Flags().StringVar(&identity, "identity", "", "namespace/account of the proxy")
	create.Flags().DurationVar(&ttl, "ttl", 10*time.Minute, "how long the token may be used")
	a.prints(create, []document{{"token", joinToken{}}}, textForm, jsonForm, yamlForm)
	_ = create.MarkFlagRequired("identity")
	return group("token", "Work with join tokens", create)
}
