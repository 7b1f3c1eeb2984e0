package config

import "net/url"

// Client says through which server commands work.
type Client struct {
	URL       URL    `koanf:"url" env:"RESERVOIR_SERVER" doc:"Where reservoir serve is, as https://reservoir.example.com; empty: commands work on the bucket itself. RESERVOIR_SERVER in the environment."`
	Token     Secret `koanf:"token" env:"RESERVOIR_TOKEN" doc:"Token that the server knows; see reservoir token create. RESERVOIR_TOKEN in the environment."`
	TokenFile string `koanf:"token_file" doc:"File that holds the token; a trailing newline is dropped."`
	CAFile    string `koanf:"ca_file" doc:"File with certificates of authorities that are trusted beside the system's, PEM."`
}

// problems gives what can be seen without reaching anything.
func (c *Client) problems() []Problem {
	if c.URL.IsZero() {
		return nil
	}
	u, err := url.Parse(c.URL.text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return []Problem{{Key: "client.url", Value: c.URL.String(), What: "is not the URL of a server", Want: "want one as https://reservoir.example.com or http://127.0.0.1:8080"}}
	}
	if u.User != nil {
		return []Problem{{Key: "client.url", Value: c.URL.String(), What: "holds a user or a password, which the server does not take", Want: "want a token, by RESERVOIR_TOKEN or client.token_file"}}
	}
	return nil
}
