package migrations_test

import (
	"strings"
	"testing"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/migrations"
)

// TestRoles checks the statements by the engine's parser: it has nowhere to keep roles.
func TestRoles(t *testing.T) {
	b := newBench(t, false)
	b.up()
	b.add("orders", at(21, 7, 0), 10)
	b.sync()
	for _, statement := range []string{
		"CREATE TABLE shop.revenue (tenant String) ENGINE = MergeTree ORDER BY tenant",
		"CREATE TABLE shop.revenue__g2 (tenant String) ENGINE = MergeTree ORDER BY tenant",
		"CREATE TABLE shop.other (a Int8) ENGINE = MergeTree ORDER BY a",
	} {
		if _, err := b.ch.Query(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	config := b.config
	for name, cluster := range map[string]string{"server": "", "cluster": "my cluster"} {
		t.Run(name, func(t *testing.T) {
			config.Cluster = cluster
			m := b.migrator(config)
			plain, err := m.Roles(t.Context(), migrations.RolesSpec{})
			if err != nil || len(plain) != 4 {
				t.Fatal(plain, err)
			}
			statements, err := m.Roles(t.Context(), migrations.RolesSpec{Role: "reader's `role`", Tenants: []string{"acme", `o'neill "x"`}})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range append(plain, statements...) {
				if _, err := b.ch.Query(t.Context(), "EXPLAIN AST "+s); err != nil {
					t.Errorf("%s: %v", s, err)
				}
				if strings.Contains(s, "ON CLUSTER") != (cluster != "") {
					t.Errorf("cluster: %s", s)
				}
			}
			all := strings.Join(statements, "\n")
			for text, want := range map[string]int{
				"ON `archive`.`orders` USING `tenant` = 'acme'": 1, "ON `shop`.`revenue` USING `tenant` = 'acme'": 1, "GRANT": 2 + 4,
				"USING 1 TO": 2, "revenue__g2": 0, "other": 0,
			} {
				if n := strings.Count(all, text); n != want {
					t.Errorf("%q stands %d times, want %d:\n%s", text, n, want, all)
				}
			}
		})
	}
	statements, err := b.m.Roles(t.Context(), migrations.RolesSpec{})
	b.must(err)
	if err := b.m.Apply(t.Context(), statements); err == nil || !strings.Contains(err.Error(), "statement 1 of 4") {
		t.Errorf("an engine that cannot keep roles took them: %v", err)
	}
	if _, err := b.m.Roles(t.Context(), migrations.RolesSpec{Tenants: []string{""}}); err == nil {
		t.Error("a tenant without a name was taken")
	}
}

// TestReplicatedTexts checks by the parser what needs a cluster with a Keeper.
func TestReplicatedTexts(t *testing.T) {
	b := newBench(t, false)
	texts, err := migrations.Texts(chstore.Config{URL: b.ch.URL(), Database: "my shop", Cluster: "c 1", Replicated: true}, "the archive")
	b.must(err)
	for name, text := range texts {
		parts := strings.Split(text, "-- +goose Down")
		if len(parts) != 2 {
			t.Fatalf("%s has %d parts", name, len(parts))
		}
		for statement := range strings.SplitSeq(strings.Join(parts, ""), ";\n") {
			if statement = strings.TrimSpace(statement); statement == "" {
				continue
			}
			if _, err := b.ch.Query(t.Context(), "EXPLAIN AST "+statement); err != nil {
				t.Errorf("%s: %v\n%s", name, err, statement)
			}
			if !strings.Contains(statement, "ON CLUSTER `c 1`") || strings.Contains(statement, "= ReplacingMergeTree") {
				t.Errorf("%s: not for a cluster:\n%s", name, statement)
			}
		}
	}
}

// TestOtherTextsOfClusters is TestReplicatedTexts for the statements that are in no
// migration.
func TestOtherTextsOfClusters(t *testing.T) {
	b := newBench(t, false)
	texts, err := migrations.OtherTexts(chstore.Config{URL: b.ch.URL(), Database: "my shop", Cluster: "c 1", Replicated: true}, "the archive", "orders' `x`",
		chstore.S3{Region: "r", Bucket: "lake", AccessKey: "k'", SecretKey: "s", SessionToken: "t"}, []string{"streams/a/1/parquet", "streams/a/2/parquet"})
	b.must(err)
	if len(texts) != 8 {
		t.Errorf("%d statements", len(texts))
	}
	for _, text := range texts {
		if _, err := b.ch.Query(t.Context(), "EXPLAIN AST "+text); err != nil {
			t.Errorf("%v\n%s", err, text)
		}
		if !strings.HasPrefix(text, "INSERT INTO") && !strings.Contains(text, "ON CLUSTER `c 1`") || strings.Contains(text, "ENGINE = MergeTree") {
			t.Errorf("not for a cluster:\n%s", text)
		}
	}
}
