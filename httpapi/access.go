package httpapi

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/audit"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// Tokens returns the store of the tokens, for whoever makes them beside the API.
func (s *Server) Tokens() *token.Store { return s.tokens }

// idPlace is a place in a list that goes by ID.
type idPlace struct {
	After string `json:"a"`
}

// ListAudit implements api.StrictServerInterface.
func (s *Server) ListAudit(ctx context.Context, r api.ListAuditRequestObject) (api.ListAuditResponseObject, error) {
	p := r.Params
	var place idPlace
	if err := decodeCursor(p.Cursor, &place); err != nil {
		return nil, err
	}
	if place.After != "" && audit.CheckID(place.After) != nil {
		return nil, badCursor()
	}
	list := api.AuditList{Entries: []api.AuditEntry{}}
	q := audit.Query{Since: p.Since, Until: p.Until, Who: p.Who, Operation: p.Operation, After: place.After}
	for e, err := range s.trail.List(ctx, q) {
		if err != nil {
			return nil, err
		}
		if n := len(list.Entries); n == p.Limit {
			if list.Next, err = encodeCursor(idPlace{list.Entries[n-1].ID}); err != nil {
				return nil, err
			}
			break
		}
		list.Entries = append(list.Entries, *e)
	}
	return api.ListAudit200JSONResponse(list), nil
}

func (s *Server) viewToken(t *token.Token) api.Token {
	return api.Token{
		ID: t.ID, Name: t.Name, Role: api.Role(t.Role), Streams: t.Streams, Tenants: t.Tenants, CreatedAt: t.CreatedAt, CreatedBy: t.CreatedBy,
		ExpiresAt: t.ExpiresAt, RevokedAt: t.RevokedAt, RevokedBy: t.RevokedBy, State: api.TokenState(t.State(s.opts.Clock())),
	}
}

// ListTokens implements api.StrictServerInterface.
func (s *Server) ListTokens(ctx context.Context, r api.ListTokensRequestObject) (api.ListTokensResponseObject, error) {
	var place idPlace
	if err := decodeCursor(r.Params.Cursor, &place); err != nil {
		return nil, err
	}
	if place.After != "" && token.CheckID(place.After) != nil {
		return nil, badCursor()
	}
	list := api.TokenList{Tokens: []api.Token{}}
	for t, err := range s.tokens.List(ctx, place.After) {
		if err != nil {
			return nil, err
		}
		if n := len(list.Tokens); n == r.Params.Limit {
			if list.Next, err = encodeCursor(idPlace{list.Tokens[n-1].ID}); err != nil {
				return nil, err
			}
			break
		}
		list.Tokens = append(list.Tokens, s.viewToken(t))
	}
	return api.ListTokens200JSONResponse(list), nil
}

// CreateToken implements api.StrictServerInterface.
func (s *Server) CreateToken(ctx context.Context, r api.CreateTokenRequestObject) (api.CreateTokenResponseObject, error) {
	b := r.Body
	t, text, err := s.tokens.Create(ctx, token.New{
		Name: b.Name, Role: token.Role(b.Role), Streams: b.Streams, Tenants: b.Tenants, ExpiresAt: b.ExpiresAt, CreatedBy: who(ctx).name,
	})
	if err != nil {
		return nil, err
	}
	about(ctx, t.ID)
	return api.CreateToken201JSONResponse{
		Body:    api.CreatedToken{Text: text, Token: s.viewToken(t)},
		Headers: api.CreateToken201ResponseHeaders{CacheControl: "no-store"},
	}, nil
}

// RevokeToken implements api.StrictServerInterface.
func (s *Server) RevokeToken(ctx context.Context, r api.RevokeTokenRequestObject) (api.RevokeTokenResponseObject, error) {
	about(ctx, r.ID)
	if _, err := s.tokens.Revoke(ctx, r.ID, who(ctx).name); err != nil {
		return nil, err
	}
	return api.RevokeToken204Response{}, nil
}

// GetWhoami implements api.StrictServerInterface.
func (*Server) GetWhoami(ctx context.Context, _ api.GetWhoamiRequestObject) (api.GetWhoamiResponseObject, error) {
	p := who(ctx)
	return api.GetWhoami200JSONResponse{ID: p.id, Name: p.name, Role: api.Role(p.role), Streams: p.streamPatterns, Tenants: p.tenants}, nil
}

// sessionAge is how long a browser keeps a session; the token may expire before.
const sessionAge = 12 * time.Hour

func sessionText(ctx context.Context, value string, age time.Duration) string {
	return (&http.Cookie{
		Name: sessionCookie, Value: value, Path: "/", MaxAge: int(age / time.Second), HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: callOf(ctx).secure,
	}).String()
}

// CreateSession implements api.StrictServerInterface.
func (s *Server) CreateSession(ctx context.Context, r api.CreateSessionRequestObject) (api.CreateSessionResponseObject, error) {
	call := callOf(ctx)
	address, now := "failed:"+subscriber(call.from), s.opts.Clock()
	if s.failures.exhausted(address, now) && !s.cheap(r.Body.Token) {
		return nil, tooManyFailures()
	}
	_, err := s.verify(ctx, r.Body.Token)
	if errors.Is(err, token.ErrRejected) {
		s.failures.take(address, now)
		return nil, rejected(err)
	}
	if err != nil {
		return nil, err
	}
	return api.CreateSession204Response{Headers: api.CreateSession204ResponseHeaders{SetCookie: sessionText(ctx, r.Body.Token, sessionAge)}}, nil
}

// DeleteSession implements api.StrictServerInterface.
func (*Server) DeleteSession(ctx context.Context, _ api.DeleteSessionRequestObject) (api.DeleteSessionResponseObject, error) {
	return api.DeleteSession204Response{Headers: api.DeleteSession204ResponseHeaders{SetCookie: sessionText(ctx, "", -time.Second)}}, nil
}
