package e2e_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what a faulty S3 service does to one request.
type fault int

const (
	none        fault = iota
	before            // answers 500 or 503, having done nothing
	cutBefore         // drops the connection, having done nothing
	after             // does it, and answers 500 or 503
	cutAfter          // does it, and drops the connection
	cutRequest        // the connection breaks while the request is sent
	cutResponse       // does it, and the connection breaks in the midst of the answer
	slow              // takes its time before and after it does it
	silent            // does it, and stays silent for longer than anybody waits
	numFaults
)

func (f fault) String() string {
	return [...]string{"none", "before", "cut before", "after", "cut after", "cut request", "cut response", "slow", "silent"}[f]
}

// proxy is an S3 service that fails at random. It passes everything else on to
// a real one, signatures included.
type proxy struct {
	server    *httptest.Server
	target    *url.URL
	transport *http.Transport

	percent atomic.Int64 // of the requests that meet a fault; fifteen times as many of the commits
	held    atomic.Pointer[chan struct{}]
	arrived chan struct{} // one for each commit that is held

	mu     sync.Mutex
	rng    *rand.Rand
	decks  [2][]fault     // what comes next: for commits, and for all else
	faults [numFaults]int // requests by fault
	commit [numFaults]int // those of them that put a commit, or a job
}

func newProxy(t *testing.T, target string, rng *rand.Rand) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{target: u, rng: rng, transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64}, arrived: make(chan struct{}, 100)}
	p.server = httptest.NewServer(p)
	t.Cleanup(func() {
		p.server.CloseClientConnections()
		p.server.Close()
		p.transport.CloseIdleConnections()
	})
	return p
}

// ServeHTTP implements http.Handler.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	commit := r.Method == http.MethodPut && (strings.Contains(r.URL.Path, "/log/") && !strings.Contains(r.URL.Path, "/snapshot/") ||
		strings.Contains(r.URL.Path, "/jobs/active/"))
	if held := p.held.Load(); held != nil && commit {
		p.arrived <- struct{}{}
		select {
		case <-*held:
		case <-r.Context().Done():
			return
		}
	}
	f, amount := p.draw(commit)
	switch f {
	case before:
		refuse(w, amount)
		return
	case cutBefore:
		cut(w)
		return
	case slow:
		wait(r, time.Duration(amount*float64(400*time.Millisecond)))
	case cutRequest:
		r.Body = &brokenBody{r.Body, int64(amount * float64(max(r.ContentLength, 1)))}
	}
	answer, err := p.forward(r)
	if err != nil {
		cut(w)
		return
	}
	defer answer.Body.Close()
	p.answer(w, r, answer, f, amount)
}

// draw chooses what happens to a request, and how much of it.
func (p *proxy) draw(commit bool) (fault, float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	percent := int(p.percent.Load())
	if commit {
		percent *= 15
	}
	deck := &p.decks[0]
	if commit {
		deck = &p.decks[1]
	}
	f := none
	if p.rng.IntN(100) < percent {
		f = p.deal(deck)
	}
	p.faults[f]++
	if commit {
		p.commit[f]++
	}
	return f, p.rng.Float64()
}

// deal takes the next fault of a deck, so that every kind has its turns. There
// is one silent fault in a deck, since those take long, and two of the others.
func (p *proxy) deal(deck *[]fault) fault {
	if len(*deck) == 0 {
		for f := before; f < numFaults; f++ {
			*deck = append(*deck, f)
			if f != silent {
				*deck = append(*deck, f)
			}
		}
		p.rng.Shuffle(len(*deck), func(i, j int) { (*deck)[i], (*deck)[j] = (*deck)[j], (*deck)[i] })
	}
	f := (*deck)[0]
	*deck = (*deck)[1:]
	return f
}

// forward sends the request on. Its effect does not depend on whether the
// client still waits.
func (p *proxy) forward(r *http.Request) (*http.Response, error) {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = p.target.Scheme, p.target.Host, ""
	if r.ContentLength == 0 {
		out.Body = nil
	}
	return p.transport.RoundTrip(out) // the Host, which is signed, stays
}

func (p *proxy) answer(w http.ResponseWriter, r *http.Request, answer *http.Response, f fault, amount float64) {
	switch f {
	case after:
		refuse(w, amount)
		return
	case cutAfter, cutRequest:
		cut(w)
		return
	case silent:
		wait(r, 3*time.Second)
		cut(w)
		return
	case slow:
		wait(r, time.Duration(amount*float64(400*time.Millisecond)))
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	var err error
	if f == cutResponse {
		_, err = io.CopyN(w, answer.Body, int64(amount*float64(max(answer.ContentLength, 0))))
		err = errors.Join(err, errBroken)
	} else {
		_, err = io.Copy(w, answer.Body)
	}
	if err != nil {
		cut(w)
	}
}

// refuse answers as an S3 service that has a bad moment.
func refuse(w http.ResponseWriter, amount float64) {
	status, code := http.StatusInternalServerError, "InternalError"
	if amount < 0.5 {
		status, code = http.StatusServiceUnavailable, "SlowDown"
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>`+code+`</Code><Message>made up</Message></Error>`) //nolint:errcheck // the client may be gone
}

// cut resets the client's connection.
func cut(w http.ResponseWriter) {
	http.NewResponseController(w).Flush() //nolint:errcheck // whatever was written goes out, if it can
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		tcp.SetLinger(0) //nolint:errcheck // then it ends in good order, which is a cut too
	}
	conn.Close()
}

func wait(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	}
}

var errBroken = errors.New("broken on purpose")

// brokenBody fails after some bytes.
type brokenBody struct {
	io.ReadCloser
	left int64
}

func (b *brokenBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errBroken
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// hold makes commits wait until release is called.
func (p *proxy) hold() (release func()) {
	gate := make(chan struct{})
	p.held.Store(&gate)
	return sync.OnceFunc(func() {
		p.held.Store(nil)
		close(gate)
	})
}

// env points the program at the proxy.
func (p *proxy) env() []string { return []string{"RESERVOIR_STORE_ENDPOINT=" + p.server.URL} }
