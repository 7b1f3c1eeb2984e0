package redisstream

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestConfigFromURL(t *testing.T) {
	for url, want := range map[string]Config{
		"redis://localhost":                          {Mode: Single, Addrs: []string{"localhost:6379"}},
		"redis://localhost:7000/":                    {Mode: Single, Addrs: []string{"localhost:7000"}},
		"redis://[::1]":                              {Mode: Single, Addrs: []string{"[::1]:6379"}},
		"redis://[::1]:7000/2":                       {Mode: Single, Addrs: []string{"[::1]:7000"}, DB: 2},
		"redis://h?db=4":                             {Mode: Single, Addrs: []string{"h:6379"}, DB: 4},
		"redis://:pass@h":                            {Mode: Single, Addrs: []string{"h:6379"}, Password: "pass"},
		"redis://u%40x:p%3A%2Fs%25@h":                {Mode: Single, Addrs: []string{"h:6379"}, Username: "u@x", Password: "p:/s%"},
		"redis://u:p@ss@h":                           {Mode: Single, Addrs: []string{"h:6379"}, Username: "u", Password: "p@ss"},
		"rediss://h":                                 {Mode: Single, Addrs: []string{"h:6379"}, TLS: TLS{Enabled: true}},
		"unix:///run/redis.sock?db=1":                {Mode: Single, Addrs: []string{"/run/redis.sock"}, DB: 1},
		"redis+sentinel://a,b:1,[::2]/mymaster/3":    {Mode: Sentinel, Addrs: []string{"a:26379", "b:1", "[::2]:26379"}, MasterName: "mymaster", DB: 3},
		"rediss+cluster://u:p@a,b:7001":              {Mode: Cluster, Addrs: []string{"a:6379", "b:7001"}, Username: "u", Password: "p", TLS: TLS{Enabled: true}},
		"redis+sentinel://u:p@10.0.0.1:26379/master": {Mode: Sentinel, Addrs: []string{"10.0.0.1:26379"}, MasterName: "master", Username: "u", Password: "p"},
	} {
		got, err := Config{URL: url}.resolve()
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		want.URL, want.DialTimeout, want.ReadTimeout, want.ClientName = url, 5*time.Second, 10*time.Second, "reservoir"
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", url, got, want)
		}
	}
}

func TestConfigFieldsWinOverURL(t *testing.T) {
	got, err := Config{URL: "redis://u:p@h:1/2", Addrs: []string{"other"}, Username: "me", Password: "secret", DB: 5}.resolve()
	if err != nil || got.Addrs[0] != "other:6379" || got.Username != "me" || got.Password != "secret" || got.DB != 5 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestConfigValidate(t *testing.T) {
	addr := []string{"h"}
	for field, cfg := range map[string]Config{
		"url: no address":      {},
		"url: no scheme":       {URL: "localhost:6379"},
		"url: unknown scheme":  {URL: "http://h"},
		"url: unknown param":   {URL: "redis://h?retries=3"},
		"url: database":        {URL: "redis://h/abc"},
		"url: the password":    {URL: "redis://u:hunter2%zz@h"},
		"mode":                 {Addrs: addr, Mode: "magic"},
		"addrs: an address":    {Addrs: []string{""}},
		"addrs: 2 addresses":   {URL: "redis://a,b"},
		"master_name: empty":   {URL: "redis+sentinel://a"},
		"master_name: set":     {URL: "redis://a", MasterName: "m"},
		"db: -1":               {Addrs: addr, DB: -1},
		"db: 1 in a cluster":   {URL: "redis+cluster://a/1"},
		"password: empty":      {Addrs: addr, Username: "u"},
		"tls.cert_file":        {Addrs: addr, TLS: TLS{CertFile: "c"}},
		"dial_timeout":         {Addrs: addr, DialTimeout: -1},
		"read_timeout":         {Addrs: addr, ReadTimeout: -1},
		"url: the user name":   {URL: "redis://%zz@h"},
		"url: unknown scheme ": {URL: "redis+magic://h"},
	} {
		err := cfg.Validate()
		if err == nil || !strings.HasPrefix(err.Error(), strings.TrimSpace(field)) {
			t.Errorf("want an error about %q, got %v", field, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the password: %v", err)
		}
	}
}
