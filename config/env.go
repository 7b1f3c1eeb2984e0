package config

import (
	"fmt"
	"regexp"
	"strings"
)

// foreignEnv are variables with our prefix that are no keys: what Kubernetes
// puts into every pod for a service whose name begins with "reservoir", what
// names the programs and servers of tests, the secrets that replays name, and
// who asks for them.
var foreignEnv = regexp.MustCompile(`_SERVICE_HOST$|_SERVICE_PORT(_\w+)?$|_PORT$|_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?$|^RESERVOIR_(TEST|TOOL|SINK)_|^RESERVOIR_USER$`)

// parseEnv takes the RESERVOIR_* variables of environ, which is as os.Environ
// gives it. A variable's key is found among the known keys, since an underscore
// may stand for itself or for a dot.
func parseEnv(environ []string, s *schema) (layer, []Problem) {
	values, problems := layer{}, []Problem(nil)
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, EnvPrefix) || name == EnvFile {
			continue
		}
		origin := Origin{Layer: LayerEnv, Name: name}
		if k, ok := s.byEnv[name]; ok {
			values[k.Name] = setting{value: value, origin: origin}
			continue
		}
		if foreignEnv.MatchString(name) {
			continue
		}
		p := Problem{Key: name, What: "environment variable of no known key"}
		near := nearest(name, func(yield func(string) bool) {
			for _, k := range s.keys {
				if !yield(k.Env()) {
					return
				}
			}
		})
		if near != "" {
			p.Want = fmt.Sprintf("did you mean %s?", near)
		}
		problems = append(problems, p)
	}
	return values, problems
}
