package app

import (
	"context"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/httpapi/token"
)

// literally makes a pattern of streams that fits what begins so.
var literally = strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`)

// streamWords are the streams that the server shows of its archive.
func (r *remote) streamWords(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
	p := api.ListStreamsParams{Stream: []string{literally.Replace(prefix) + "*"}, Limit: completionMost}
	list, err := ask[api.StreamList](ctx, r, call{role: token.Viewer, send: func() (*http.Response, error) { return r.api.ListStreams(ctx, &p) }})
	if err != nil {
		return nil, err
	}
	for i := range list.Streams {
		if list.Streams[i].Archived {
			found = append(found, list.Streams[i].Stream)
		}
	}
	return found, nil
}

// projectionWords are the projections that the server shows.
func (r *remote) projectionWords(ctx context.Context, prefix string) (found []cobra.Completion, err error) {
	list, err := ask[api.ProjectionList](ctx, r, call{role: token.Viewer, send: func() (*http.Response, error) { return r.api.ListProjections(ctx) }})
	if err != nil {
		return nil, err
	}
	for i := range list.Projections {
		if d := &list.Projections[i]; strings.HasPrefix(d.Name, prefix) {
			found = append(found, cobra.CompletionWithDesc(d.Name, d.Description))
		}
	}
	return found, nil
}
