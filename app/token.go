package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/objectstore"
)

const tokenHelp = `Make, list and revoke the tokens that the API and the web page take. They are in the bucket, so no server need run; whoever can write to the bucket can make one.

From the first token on, servers want one of everybody.`

func newTokenCmd(app *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:         "token",
		Short:       "Make, list and revoke tokens of the API",
		Long:        tokenHelp,
		Args:        subcommandOnly,
		Annotations: withoutConfig,
		RunE:        func(*cobra.Command, []string) error { return usagef("want create, list or revoke") },
	}
	cmd.AddCommand(newTokenCreateCmd(app), newTokenListCmd(app), newTokenRevokeCmd(app))
	return cmd
}

const tokenCreateHelp = `Make a token and print it, which is the only time that it is shown: a hash of it is kept.

A viewer looks; an operator also creates and steers jobs; an admin also deals with tokens, sees the audit trail and drops old tables.
A token that is restricted to streams or tenants sees nothing else.`

const tokenCreateExample = `  reservoir token create --name ann --role admin
  reservoir token create --name dashboard --expires 90d
  reservoir token create --name acme-support --role operator --tenant acme --stream 'shop:*'
  TOKEN=$(reservoir token create --name ci --role operator --quiet)`

func newTokenCreateCmd(app *app) *cobra.Command {
	n := token.New{}
	var role, expires string
	var asJSON, quiet, first bool
	cmd := &cobra.Command{
		Use:     "create",
		Short:   "Make a token, and print it this once",
		Long:    tokenCreateHelp,
		Example: tokenCreateExample,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n.Role = token.Role(role)
			if expires != "" {
				age, err := config.ParseDuration(expires)
				if err != nil || age <= 0 {
					return usagef("--expires %q is no time to come: want one as 90d or 12h", expires)
				}
				n.ExpiresAt = time.Now().Add(age.D())
			}
			n.CreatedBy = app.user()
			if n.Name == "" {
				n.Name = cmp.Or(n.CreatedBy, role)
			}
			if err := n.Validate(time.Now()); err != nil {
				return usageError{err}
			}
			return app.createToken(cmd.Context(), n, tokenOutput{asJSON, quiet}, first)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&n.Name, "name", "", "who or what uses it, for `people` (default: the user's)")
	flags.StringVar(&role, "role", string(token.Viewer), "viewer, operator or admin")
	flags.StringArrayVar(&n.Streams, "stream", nil, "restrict it to streams of this `pattern`; may be given several times")
	flags.StringArrayVar(&n.Tenants, "tenant", nil, "restrict it to this `tenant`; may be given several times")
	flags.StringVar(&expires, "expires", "", "how `long` it can be used, as 90d (default: until it is revoked)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.BoolVar(&quiet, "quiet", false, "print only the token, for scripts")
	flags.BoolVar(&first, "first", false, "do nothing if there is any token already, for scripts that set up")
	return cmd
}

// madeToken is the output of create with --json, as the API gives it.
type madeToken struct {
	Text  string      `json:"text"`
	Token listedToken `json:"token"`
}

// listedToken is a token as list --json and the API show it: without its hash.
type listedToken struct {
	ID        string      `json:"id"`
	Name      string      `json:"name"`
	Role      token.Role  `json:"role"`
	Streams   []string    `json:"streams,omitempty"`
	Tenants   []string    `json:"tenants,omitempty"`
	CreatedAt time.Time   `json:"created_at"`
	CreatedBy string      `json:"created_by,omitempty"`
	ExpiresAt time.Time   `json:"expires_at,omitzero"`
	RevokedAt time.Time   `json:"revoked_at,omitzero"`
	RevokedBy string      `json:"revoked_by,omitempty"`
	State     token.State `json:"state"`
}

func listed(t *token.Token) listedToken {
	return listedToken{
		ID: t.ID, Name: t.Name, Role: t.Role, Streams: t.Streams, Tenants: t.Tenants, CreatedAt: t.CreatedAt, CreatedBy: t.CreatedBy,
		ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, RevokedBy: t.RevokedBy, State: t.State(time.Now()),
	}
}

// tokenOutput says how a token is printed.
type tokenOutput struct{ json, quiet bool }

func (a *app) createToken(ctx context.Context, n token.New, out tokenOutput, first bool) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	if err := objectstore.Probe(ctx, store); err != nil {
		return fmt.Errorf("probe the object store: %w", err)
	}
	tokens := token.NewStore(store, nil)
	if first {
		if there, err := tokens.Any(ctx); err != nil || there {
			return err
		}
	}
	var made *token.Token
	var text string
	err = a.auditedDeed(ctx, store, "createToken", "/v1/tokens", func() (subject string, err error) {
		if made, text, err = tokens.Create(ctx, n); err != nil {
			return "", err
		}
		return made.ID, nil
	})
	switch {
	case err != nil:
		return err
	case out.json:
		return a.printJSON(madeToken{text, listed(made)})
	case out.quiet:
		return a.printf("%s\n", text)
	}
	until := "until it is revoked"
	if !made.ExpiresAt.IsZero() {
		until = "until " + made.ExpiresAt.Format(time.DateTime) + " UTC"
	}
	return a.printf("%s\n\ntoken %s of %s, %s, %s\nIt is shown only now. Send it as: Authorization: Bearer TOKEN\n", text, made.ID, cellText.Replace(made.Name), made.Role, until)
}

// auditedDeed does what is audited where the API does it.
func (a *app) auditedDeed(ctx context.Context, store objectstore.Store, operation, path string, deed func() (subject string, err error)) error {
	trail := audit.New(store, nil)
	user := cmp.Or(a.user(), "unknown")
	entry, err := trail.Begin(ctx, audit.Entry{Who: "cli:" + user, Name: user, Operation: operation, Method: "CLI", Path: path, RequestID: rand.Text()})
	if err != nil {
		return err
	}
	result, problem := audit.Done, ""
	var failed error
	if entry.Subject, failed = deed(); failed != nil {
		result, problem = audit.Failed, a.cfg.Redact(failed.Error())
		if errors.Is(failed, token.ErrNotFound) || errors.Is(failed, token.ErrInvalid) {
			result = audit.Refused
		}
	}
	return errors.Join(failed, trail.End(ctx, entry, result, 0, problem))
}

// tokenList is the output of list with --json.
type tokenList struct {
	Tokens []listedToken `json:"tokens"`
}

func newTokenListCmd(app *app) *cobra.Command {
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tokens that can be used, oldest first",
		Example: `  reservoir token list
  reservoir token list --all --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return app.listTokens(cmd.Context(), all, asJSON) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "those that were revoked or have expired too")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) listTokens(ctx context.Context, all, asJSON bool) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	list := tokenList{Tokens: []listedToken{}}
	for t, err := range token.NewStore(store, nil).List(ctx, "") {
		if err != nil {
			return err
		}
		if one := listed(t); all || one.State == token.Valid {
			list.Tokens = append(list.Tokens, one)
		}
	}
	if asJSON {
		return a.printJSON(list)
	}
	t := a.table("ID", "STATE", "ROLE", "NAME", "CREATED", "EXPIRES", "STREAMS", "TENANTS")
	for _, one := range list.Tokens {
		expires := "never"
		if !one.ExpiresAt.IsZero() {
			expires = one.ExpiresAt.Format(time.DateTime)
		}
		t.row(one.ID, string(one.State), string(one.Role), one.Name, one.CreatedAt.Format(time.DateTime), expires,
			cmp.Or(strings.Join(one.Streams, ","), "all"), cmp.Or(strings.Join(one.Tenants, ","), "all"))
	}
	return t.flush()
}

func newTokenRevokeCmd(app *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ID",
		Short: "Make a token invalid for good",
		Long: `Make a token invalid for good. Servers that run refuse it within ten seconds.

Revoking the last token opens nothing: from the first token on, servers want one.`,
		Example: `  reservoir token revoke 01KAJ4M5N6P7Q8R9S0T1V2W3X4`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("which token? Give its ID; `reservoir token list` shows them")
			}
			if err := token.CheckID(args[0]); err != nil {
				return usageError{remedy.Wrap(err, "`reservoir token list` shows the IDs; the ID is also the part of a token after rsv_")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return app.revokeToken(cmd.Context(), args[0]) },
	}
}

func (a *app) revokeToken(ctx context.Context, id string) error {
	store, err := a.openStore(ctx)
	if err != nil {
		return err
	}
	err = a.auditedDeed(ctx, store, "revokeToken", "/v1/tokens/"+id, func() (string, error) {
		_, err := token.NewStore(store, nil).Revoke(ctx, id, a.user())
		return id, err
	})
	if errors.Is(err, token.ErrNotFound) {
		return remedy.Wrap(err, "`reservoir token list --all` shows the tokens that there are")
	}
	if err != nil {
		return err
	}
	return a.printf("token %s is revoked\n", id)
}
