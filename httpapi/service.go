package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/objectstore"
)

// GetHealth implements api.StrictServerInterface.
func (*Server) GetHealth(context.Context, api.GetHealthRequestObject) (api.GetHealthResponseObject, error) {
	return api.GetHealth200TextResponse("ok\n"), nil
}

// readyTimeout bounds how long a dependency may take to answer.
const readyTimeout = 5 * time.Second

// GetReady implements api.StrictServerInterface.
func (s *Server) GetReady(ctx context.Context, _ api.GetReadyRequestObject) (api.GetReadyResponseObject, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	type check struct {
		name string
		ask  func(context.Context) error
	}
	checks := []check{{"object store", s.askStore}}
	if s.opts.Redis != nil {
		checks = append(checks, check{"redis", func(ctx context.Context) error {
			_, err := s.opts.Redis.Server(ctx)
			return err
		}})
	}
	if s.opts.ClickHouse != nil {
		checks = append(checks, check{"clickhouse", s.opts.ClickHouse.Ping})
	}
	for name, ask := range s.opts.Ready {
		checks = append(checks, check{name, ask})
	}
	answer := api.Ready{Ready: true, Dependencies: make([]api.Dependency, len(checks))}
	var group sync.WaitGroup
	for i, c := range checks {
		group.Go(func() {
			d := api.Dependency{Name: c.name, Ready: true}
			if err := c.ask(ctx); err != nil {
				d.Ready = false
				if callOf(ctx).principal != nil {
					d.Error, d.Remedy = s.opts.Redact(err.Error()), s.opts.Redact(s.remedy(err))
				}
			}
			answer.Dependencies[i] = d
		})
	}
	group.Wait()
	for _, d := range answer.Dependencies {
		answer.Ready = answer.Ready && d.Ready
	}
	if !answer.Ready {
		return api.GetReady503JSONResponse(answer), nil
	}
	return api.GetReady200JSONResponse{ReadyAnswerJSONResponse: api.ReadyAnswerJSONResponse(answer)}, nil
}

// askStore looks for an object that is not there: that it is told so says that the
// store answers and lets us read.
func (s *Server) askStore(ctx context.Context) error {
	_, err := s.opts.Objects.Head(ctx, "probe/ready")
	if errors.Is(err, objectstore.ErrNotFound) {
		return nil
	}
	return err
}

// GetVersion implements api.StrictServerInterface.
func (s *Server) GetVersion(context.Context, api.GetVersionRequestObject) (api.GetVersionResponseObject, error) {
	return api.GetVersion200JSONResponse(s.opts.Build), nil
}

// GetDocument implements api.StrictServerInterface.
func (*Server) GetDocument(context.Context, api.GetDocumentRequestObject) (api.GetDocumentResponseObject, error) {
	return api.GetDocument200ApplicationYamlResponse{Body: bytes.NewReader(document), ContentLength: int64(len(document))}, nil
}

// metricsAnswer writes the metrics.
type metricsAnswer struct{ handler http.Handler }

// VisitGetMetricsResponse implements api.GetMetricsResponseObject.
func (m metricsAnswer) VisitGetMetricsResponse(w http.ResponseWriter) error {
	m.handler.ServeHTTP(w, &http.Request{Method: http.MethodGet, Header: http.Header{}})
	return nil
}

// GetMetrics implements api.StrictServerInterface.
func (s *Server) GetMetrics(context.Context, api.GetMetricsRequestObject) (api.GetMetricsResponseObject, error) {
	if s.opts.Gatherer == nil {
		return nil, notConfigured.problem("this server gives no metrics")
	}
	return metricsAnswer{promhttp.HandlerFor(s.opts.Gatherer, promhttp.HandlerOpts{DisableCompression: true})}, nil
}

// BrowseDocument implements api.StrictServerInterface.
func (s *Server) BrowseDocument(context.Context, api.BrowseDocumentRequestObject) (api.BrowseDocumentResponseObject, error) {
	page, err := s.documentPage()
	if err != nil {
		return nil, err
	}
	return api.BrowseDocument200TextHTMLResponse{Body: strings.NewReader(page), ContentLength: int64(len(page))}, nil
}
