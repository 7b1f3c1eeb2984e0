package config

import (
	"net"
	"net/netip"
	"net/url"
)

// Server says how the API and the web page are served.
type Server struct {
	Listen         string    `koanf:"listen" default:"127.0.0.1:8080" doc:"host:port that is listened on. As long as there is neither a token nor an OpenID provider, it must be an address of this machine only."`
	TLS            ServerTLS `koanf:"tls" doc:"TLS of the server; without it a proxy should do it, wherever others than this machine call."`
	Work           bool      `koanf:"work" default:"true" doc:"Run jobs in the same process, as reservoir worker does."`
	Archive        bool      `koanf:"archive" default:"false" doc:"Archive streams in the same process, as reservoir archive does."`
	Project        bool      `koanf:"project" default:"false" doc:"Keep projections live in the same process, as reservoir projector does."`
	CORSOrigins    []string  `koanf:"cors_origins" doc:"Origins whose scripts may call the API with a token, as https://admin.example.com; empty: none."`
	TrustedProxies []string  `koanf:"trusted_proxies" doc:"Networks of proxies whose X-Forwarded-For is believed, as 10.0.0.0/8; empty: none."`
	SecureCookies  bool      `koanf:"secure_cookies" default:"false" doc:"Mark cookies for TLS only although the server itself does none: a proxy does."`
	Rate           int       `koanf:"rate" default:"50" min:"1" doc:"Requests a second that each caller may send."`
	Burst          int       `koanf:"burst" default:"200" min:"1" doc:"Requests that each caller may send at once."`
	OIDC           OIDC      `koanf:"oidc" doc:"An OpenID provider whose JSON Web Tokens are taken beside tokens of Reservoir's own."`
}

// ServerTLS says by what the server shows who it is.
type ServerTLS struct {
	CertFile string `koanf:"cert_file" doc:"File with the server's certificate and those between it and the authority, PEM; empty: no TLS. A new certificate is taken without a restart."`
	KeyFile  string `koanf:"key_file" doc:"File with the private key, PEM."`
}

// OIDC says which JSON Web Tokens are taken.
type OIDC struct {
	Issuer       string   `koanf:"issuer" doc:"URL of the provider, as in the tokens' iss; empty: none."`
	Audience     string   `koanf:"audience" doc:"What the tokens' aud must hold."`
	JWKS         string   `koanf:"jwks" doc:"URL of the provider's keys; empty: as its discovery document says."`
	RoleClaim    string   `koanf:"role_claim" default:"roles" doc:"Path of the claim, a text or a list, that the next three look at, as realm_access.roles."`
	Viewers      []string `koanf:"viewers" doc:"Values of that claim that make a viewer."`
	Operators    []string `koanf:"operators" doc:"Values of that claim that make an operator."`
	Admins       []string `koanf:"admins" doc:"Values of that claim that make an admin."`
	NameClaim    string   `koanf:"name_claim" doc:"Claim that names people; empty: email, else sub."`
	StreamsClaim string   `koanf:"streams_claim" doc:"Path of the claim with the patterns of the streams that who calls is restricted to; who has none may do nothing. Empty: nobody is restricted."`
	TenantsClaim string   `koanf:"tenants_claim" doc:"Path of the claim with the tenants that who calls is restricted to; who has none may do nothing. Empty: nobody is restricted."`
}

// problems gives what can be seen without reaching anything.
func (s *Server) problems() []Problem {
	var problems []Problem
	bad := func(key, value, what, want string) {
		problems = append(problems, Problem{Key: "server." + key, Value: value, What: what, Want: want})
	}
	if _, _, err := net.SplitHostPort(s.Listen); err != nil {
		bad("listen", s.Listen, "is not an address", "want host:port, as 127.0.0.1:8080")
	}
	if (s.TLS.CertFile == "") != (s.TLS.KeyFile == "") {
		bad("tls", "", "only one of cert_file and key_file is set", "want both or neither")
	}
	for _, origin := range s.CORSOrigins {
		if u, err := url.Parse(origin); err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin {
			bad("cors_origins", origin, "is not an origin", "want scheme and host, as https://admin.example.com")
		}
	}
	for _, network := range s.TrustedProxies {
		if _, err := netip.ParsePrefix(network); err != nil {
			bad("trusted_proxies", network, "is not a network", "want one as 10.0.0.0/8 or 192.0.2.7/32")
		}
	}
	o := &s.OIDC
	for _, u := range [][2]string{{"oidc.issuer", o.Issuer}, {"oidc.jwks", o.JWKS}} {
		if parsed, err := url.Parse(u[1]); u[1] != "" && (err != nil || parsed.Host == "") {
			bad(u[0], u[1], "is not a URL", "want one as https://login.example.com")
		}
	}
	roles := len(o.Viewers) + len(o.Operators) + len(o.Admins)
	switch {
	case o.Issuer == "" && (o.Audience != "" || o.JWKS != "" || roles > 0):
		bad("oidc.issuer", "", "is empty, and other keys of server.oidc are set", "want the URL of the provider")
	case o.Issuer != "" && o.Audience == "":
		bad("oidc.audience", "", "is empty", "want what the tokens' aud holds for this server")
	case o.Issuer != "" && roles == 0:
		bad("oidc.viewers", "", "is empty, and so are oidc.operators and oidc.admins: nobody could do anything", "want a value of the role claim in at least one of them")
	}
	return problems
}
