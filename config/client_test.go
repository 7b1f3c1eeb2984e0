package config

import (
	"strings"
	"testing"
)

// A client's server and token have short names in the environment, and those of their
// keys count too.
func TestClientFromEnvironment(t *testing.T) {
	for _, names := range [][2]string{{"RESERVOIR_SERVER", "RESERVOIR_TOKEN"}, {"RESERVOIR_CLIENT_URL", "RESERVOIR_CLIENT_TOKEN"}} {
		l, err := Load(Sources{File: write(t, ""), Environ: []string{names[0] + "=http://localhost:8080", names[1] + "=rsv_hunter2"}})
		if err != nil {
			t.Fatal(err)
		}
		if l.Client.URL.Reveal() != "http://localhost:8080" || l.Client.Token.Reveal() != "rsv_hunter2" || l.Origin("client.url").String() != names[0] {
			t.Errorf("%v: %+v from %s", names, l.Client, l.Origin("client.url"))
		}
		if text := l.Redact("it said rsv_hunter2"); strings.Contains(text, "hunter2") {
			t.Errorf("not hidden: %s", text)
		}
	}
	l, err := Load(Sources{File: write(t, "client: {url: https://r, token: old}"), Flags: []Flag{{"client.token_file", "token-file", write(t, "rsv_1\n")}}})
	if err != nil || l.Client.Token.Reveal() != "rsv_1" {
		t.Errorf("%v, %v", l, err)
	}
}

func TestClientProblems(t *testing.T) {
	for url, want := range map[string]string{
		"localhost:8080": "is not the URL of a server", "ftp://h": "is not the URL of a server", "http://": "is not the URL of a server", "http://h?x=1": "is not the URL of a server",
		"https://ann:hunter2@h": "which the server does not take", "": "", "https://h/reservoir": "", "http://[::1]:8080": "",
	} {
		_, err := Load(Sources{File: write(t, ""), Environ: []string{"RESERVOIR_SERVER=" + url}})
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%q: %v, want %q", url, err, want)
		}
	}
}
