package cli

import (
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// tokenVar is where expunge serve finds its token without a file.
const tokenVar = "EXPUNGE_SERVE_TOKEN"

func (a *app) serve() *cobra.Command {
	var (
		b         bucket
		req       ServeRequest
		tokenFile string
	)
	c := &cobra.Command{
		Use:     "serve",
		GroupID: "evidence",
		Short:   "Show runs, deadlines, residue and manifests on a local web page",
		Long: `Serves web pages over a state bucket until stopped: outcomes by day, the progress of
a running job, deadlines, what is still stored, targets, every manifest down to a
single file, the log's health, downloads of reports and evidence, and Prometheus
metrics under /metrics. It only reads, and serves only what holds no key. What became
of each request stands in sealed files; --requests=false leaves it out, and then the
process needs no access to secrets/ and runs/.

It listens on this machine alone, at http://127.0.0.1:8411/. Any other address needs
a token of at least 20 characters, from --token-file or $EXPUNGE_SERVE_TOKEN: browsers
ask for it as the password of any name, programs send it as a bearer token. Beyond
this machine give --tls-cert and --tls-key too, or put a proxy with TLS in front, and
name with --host every name by which it is asked for.

Manifests are checked against --trust, --key or the keys of --job; without these
against the keys that each run's own job names, which shows that nothing was altered
since, not who signed.`,
		Example: `  expunge serve --job job.yaml
  expunge serve --state s3://acme-privacy/expunge --trust trust.json
  expunge serve --job job.yaml --listen 10.0.0.5:8411 --host erasure.acme.example --token-file /run/secrets/serve --tls-cert tls.crt --tls-key tls.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if (req.TLSCert == "") != (req.TLSKey == "") {
				return usagef("--tls-cert and --tls-key go together")
			}
			req.Token = os.Getenv(tokenVar)
			if tokenFile != "" {
				raw, err := os.ReadFile(tokenFile)
				if err != nil {
					return usagef("read the token: %w", err)
				}
				req.Token = string(raw)
			}
			req.Token = strings.TrimSpace(req.Token)
			if tokenFile != "" && req.Token == "" {
				return usagef("the token file is empty")
			}
			if b.job != "" && req.Trust == "" && len(req.PublicKeys) == 0 {
				if req.Job, err = loadJob(b.job); err != nil {
					return a.conclude(cmd, nil, err)
				}
			}
			if req.State, err = b.state(); err != nil {
				return a.conclude(cmd, nil, err)
			}
			return call(a, cmd, a.backend.Serve, req)
		},
	}
	b.flags(c)
	f := c.Flags()
	f.StringVar(&req.Listen, "listen", "127.0.0.1:8411", "address and port; port 0 takes a free one")
	f.StringVar(&tokenFile, "token-file", "", "file with the token (default: $"+tokenVar+")")
	f.StringSliceVar(&req.Hosts, "host", nil, "name by which browsers may ask for the server; may be repeated")
	f.BoolVar(&req.Requests, "requests", true, "show what became of each request; needs to read runs/ and secrets/")
	f.StringVar(&req.Certificates, "certificates", "", "folder of issued certificates to list and download")
	f.StringVar(&req.TLSCert, "tls-cert", "", "certificate chain (PEM)")
	f.StringVar(&req.TLSKey, "tls-key", "", "its private key (PEM)")
	f.StringSliceVar(&req.PublicKeys, "key", nil, "public key file to trust; may be repeated")
	f.StringVar(&req.Trust, "trust", "", "trust file: keys with their validity")
	return c
}
