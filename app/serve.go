package app

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/reservoirhq/reservoir/archive"
	"github.com/reservoirhq/reservoir/archiver"
	"github.com/reservoirhq/reservoir/config"
	"github.com/reservoirhq/reservoir/httpapi"
	"github.com/reservoirhq/reservoir/httpapi/token"
	"github.com/reservoirhq/reservoir/httpapi/web"
	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/projection"
	"github.com/reservoirhq/reservoir/rebuild"
	"github.com/reservoirhq/reservoir/telemetry"
)

const serveHelp = `Serve the API and the web page, and run jobs, as a daemon. With --archive it archives streams too, and with --project it keeps projections live: one process is
then all there is. Any number of servers may run on the same bucket, with or without "reservoir archive", "reservoir projector" and "reservoir worker" beside them.

As long as there is no token ("reservoir token create") and no OpenID provider (server.oidc), only this machine is served, and may do everything.

On SIGINT or SIGTERM it answers what was asked, ends event streams, commits what is in hand, gives its jobs back for another worker to go on with, and exits 0. On a second
one it ends at once, which harms nothing.`

const serveExample = `  reservoir serve                                    API, page and jobs at http://127.0.0.1:8080
  reservoir serve --archive --project --build        and all else, in one process
  reservoir serve --listen :8443 --cert tls.crt --key tls.key
  reservoir serve --work=false                       API and page only`

func newServeCmd(app *app) *cobra.Command {
	var build bool
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Serve the API and the web page, and run jobs, as a daemon",
		Long:    serveHelp,
		Example: serveExample,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return app.serve(cmd.Context(), build) },
	}
	flags := cmd.Flags()
	bindKey(flags, "listen", "server.listen")
	bindKey(flags, "cert", "server.tls.cert_file")
	bindKey(flags, "key", "server.tls.key_file")
	bindKey(flags, "work", "server.work")
	bindKey(flags, "archive", "server.archive")
	bindKey(flags, "project", "server.project")
	bindKey(flags, "metrics", "metrics.listen")
	flags.BoolVar(&build, "build", false, "with --project: create a rebuild of each projection that was never built")
	return cmd
}

// part is one of the things that a server does until its context ends.
type part func(context.Context) error

// serve serves until ctx ends; whatever part fails ends the others.
func (a *app) serve(ctx context.Context, build bool) (err error) {
	if a.cfg.Server.Project && !a.hasRebuilds() {
		return usageError{remedy.Wrap(errors.New("there are no projections to keep live"), "set clickhouse.url and projections.dir, or leave --project and server.project out")}
	}
	certificate, err := serverTLS(a.cfg.Server.TLS)
	if err != nil {
		return usageError{err}
	}
	s, err := a.openServices(ctx, servicesSpec{redis: true, probe: true, rebuilds: a.hasRebuilds()})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(serverGCPercent))
	}
	registry := telemetry.NewRegistry(a.build())
	parts, err := a.serverParts(s, registry, build)
	if err != nil {
		return err
	}
	server, err := a.newServer(ctx, s, registry)
	if err != nil {
		return err
	}
	listener, err := server.Listen(ctx, a.cfg.Server.Listen, certificate)
	if err != nil {
		return err
	}
	scheme := "http"
	if certificate != nil {
		scheme = "https"
	}
	c := a.cfg.Server
	a.logger.Info("serving", "url", scheme+"://"+listener.Addr(), "this_machine_only", listener.Open(), "work", c.Work, "archive", c.Archive, "project", c.Project)
	return a.withMetrics(ctx, registry, func(ctx context.Context) error {
		group, ctx := errgroup.WithContext(ctx)
		for _, run := range append(parts, listener.Run) {
			group.Go(func() error { return run(ctx) })
		}
		if err := group.Wait(); err != nil {
			return err
		}
		a.logger.Info("stopped; jobs that ran are given back")
		return nil
	})
}

// serverParts makes what runs beside the API and the page.
func (a *app) serverParts(s *services, registry *prometheus.Registry, build bool) (parts []part, err error) {
	if a.cfg.Server.Work {
		runner, err := a.newRunner(s, registry)
		if err != nil {
			return nil, err
		}
		parts = append(parts, runner.Run)
	}
	if a.cfg.Server.Archive {
		engine, err := archiver.New(s.redis, s.archive, archiverOptions(a.cfg), a.logger, registry)
		if err != nil {
			return nil, err
		}
		parts = append(parts, engine.Run)
	}
	if a.cfg.Server.Project {
		projector, err := s.rebuilds.Projector(rebuild.ProjectorOptions{Worker: workerName(), Build: build, Registerer: registry})
		if err != nil {
			return nil, err
		}
		parts = append(parts, projector.Run)
	}
	return parts, nil
}

// serverGCPercent is gcPercent of a server. Its heap is small, and requests make garbage full
// of pointers: at a quarter of the pace the collector took a fifth of its CPU.
const serverGCPercent = 100

// rememberedCommits bounds the bytes of memory for commits that the API and the page have
// read a moment ago.
const rememberedCommits = 16 << 20

// newServer makes the API with the page. Both look at the same logs again and again.
func (a *app) newServer(ctx context.Context, s *services, registry *prometheus.Registry) (*httpapi.Server, error) {
	reading := a.archiveOptions()
	reading.Remember = rememberedCommits
	arch, err := archive.Open(ctx, s.objects, reading)
	if err != nil {
		return nil, err
	}
	c := a.cfg.Server
	opts := httpapi.Options{
		Objects: s.objects, Archive: arch, Jobs: s.jobs, Replays: s.replays, Redis: s.redis,
		Include: a.cfg.Streams.Include, Exclude: a.cfg.Streams.Exclude, Mapping: a.cfg.Envelope,
		OIDC: oidc(c.OIDC), Rate: float64(c.Rate), Burst: c.Burst, CORSOrigins: c.CORSOrigins, TrustedProxies: c.TrustedProxies, SecureCookies: c.SecureCookies,
		Redact: a.cfg.Redact, Remedy: remedyOf, Build: a.build(), Logger: a.logger, Gatherer: registry, Registerer: registry,
	}
	if s.rebuilds != nil {
		opts.Rebuilds, opts.ClickHouse, opts.Definitions = s.rebuilds, s.clickhouse, a.loadProjections
		opts.Digest = func(d *projection.Definition) (string, error) { return digestOf(d, s.upcasters) }
	}
	server, err := httpapi.New(opts)
	if err != nil {
		return nil, err
	}
	page, err := web.New(web.Options{
		Gate: server.Gate(), Archive: arch, Redis: s.redis, Include: opts.Include, Exclude: opts.Exclude, Mapping: opts.Mapping, Jobs: s.jobs, Replays: s.replays,
		Rebuilds: opts.Rebuilds, Definitions: opts.Definitions, ClickHouse: opts.ClickHouse, Audit: server.Trail(), Watch: server.Watch,
		Settings: a.settings(), Redact: a.cfg.Redact, Version: a.build().Version, Logger: a.logger,
	})
	if err != nil {
		return nil, err
	}
	server.Mount(page)
	return server, nil
}

// oidc gives the configured OpenID provider; nil: there is none.
func oidc(c config.OIDC) *httpapi.OIDC {
	if c.Issuer == "" {
		return nil
	}
	roles := map[string]token.Role{}
	for _, of := range []struct {
		role   token.Role
		values []string
	}{{token.Viewer, c.Viewers}, {token.Operator, c.Operators}, {token.Admin, c.Admins}} {
		for _, value := range of.values {
			roles[value] = of.role // the highest counts
		}
	}
	return &httpapi.OIDC{
		Issuer: c.Issuer, Audience: c.Audience, JWKS: c.JWKS, RoleClaim: c.RoleClaim, Roles: roles, NameClaim: c.NameClaim,
		StreamsClaim: c.StreamsClaim, TenantsClaim: c.TenantsClaim,
	}
}

// settings are what is configured, secrets hidden.
func (a *app) settings() []web.Setting {
	var list []web.Setting
	for _, k := range config.Keys() {
		list = append(list, web.Setting{Key: k.Name, Value: a.cfg.Text(k), Origin: a.cfg.Origin(k.Name).String()})
	}
	return list
}
