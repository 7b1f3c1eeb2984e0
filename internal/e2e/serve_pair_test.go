package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pair is two servers on one bucket.
type pair struct {
	w      *serveWorld
	token  string
	server [2]*daemon
	at     [2]*outside
}

const pairLease = 4 * time.Second

func (p *pair) start(t *testing.T, i int) {
	t.Helper()
	p.server[i] = start(t, append(p.w.env, fmt.Sprintf("RESERVOIR_JOBS_LEASE_TTL=%s", pairLease)), "serve")
	p.at[i] = newOutside(t, p.server[i])
	p.at[i].token = p.token
}

// runs says which of the servers runs a job, by the process in the name of its worker.
func (p *pair) runs(j calledJob) int {
	for i, s := range p.server {
		if s.running() && j.State == "running" && strings.Contains(j.Lease.Worker, fmt.Sprintf("-%d-", s.cmd.Process.Pid)) {
			return i
		}
	}
	return -1
}

// get reads a job at a server.
func (p *pair) get(i int, id string) calledJob {
	return p.at[i].job(p.at[i].want(200, "GET", "/v1/jobs/"+id, ""))
}

// holder waits until one of the servers runs a job, and says which.
func (p *pair) holder(t *testing.T, asked int, id string) int {
	t.Helper()
	for waits := patient(time.Minute); ; pause(t, 20*time.Millisecond, nil) {
		j := p.get(asked, id)
		if i := p.runs(j); i >= 0 {
			return i
		}
		if waits.over() || hasEnded(j) {
			t.Fatalf("no server runs it: %+v", j)
		}
	}
}

// watchAll gives what a server says of a job to who watches all.
func (o *outside) watchAll(ctx context.Context, id string) <-chan calledJob {
	o.t.Helper()
	response := o.send(ctx, "GET", "/v1/jobs/events", "") //nolint:bodyclose // whoever reads it closes it
	seen := make(chan calledJob, 1000)
	go func() {
		defer close(seen)
		defer response.Body.Close()
		lines := bufio.NewScanner(response.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && strings.Contains(data, id) {
				seen <- o.job(data)
			}
		}
	}()
	return seen
}

// awaitSeen waits until a watcher has seen the job in a state.
func awaitSeen(t *testing.T, seen <-chan calledJob, state string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		select {
		case j, ok := <-seen:
			if !ok {
				t.Fatalf("the watcher's connection ended before it saw the job %s", state)
			}
			if j.State == state {
				return
			}
		case <-late:
			t.Fatalf("a watcher at the other server does not see the job %s", state)
		}
	}
}

// TestTwoServers: what is done at one server shows at the other at once, and a server that
// is killed leaves its job to the other within the lease.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	const count, rate = 900, 50
	p := &pair{w: newServeWorld(t, count)}
	mustReservoir(t, p.w.env, "archive", "--once")
	p.token = p.w.newToken(t, "operator")
	p.start(t, 0)
	p.start(t, 1)

	job := p.at[0].job(p.at[0].want(201, "POST", "/v1/replays", fmt.Sprintf(
		`{"paused":true,"spec":{"streams":["lane:a"],"pace":{"rate":%d},"sink":{"type":"redis","options":{"stream":"copy"}}}}`, rate), "Idempotency-Key", "k"))
	if there := p.get(1, job.ID); there.State != "paused" {
		t.Errorf("at the other server it is %+v", there)
	}
	if list := p.at[1].list("?state=paused"); len(list) != 1 || list[0].ID != job.ID {
		t.Errorf("the other server lists %+v", list)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen := p.at[1].watchAll(ctx, job.ID)
	awaitSeen(t, seen, "paused")
	p.at[0].want(200, "POST", "/v1/jobs/"+job.ID+"/resume", "")
	p.holder(t, 1, job.ID)
	p.at[1].want(200, "POST", "/v1/jobs/"+job.ID+"/pause", `{"reason":"at the other one"}`)
	if there := p.get(0, job.ID); there.State != "paused" {
		t.Errorf("paused at one server, it is %s at the other", there.State)
	}
	p.at[1].want(200, "POST", "/v1/jobs/"+job.ID+"/resume", "")
	awaitSeen(t, seen, "running")
	cancel()

	// Whichever runs it is killed, and then the other one.
	holder := p.holder(t, 0, job.ID)
	for range 2 {
		p.server[holder].kill(t)
		died, waits := time.Now(), patient(pairLease+5*time.Second)
		other := 1 - holder
		for p.runs(p.get(other, job.ID)) != other {
			if waits.over() {
				t.Fatalf("%s after the server died nobody goes on: %+v", time.Since(died), p.get(other, job.ID))
			}
			pause(t, 20*time.Millisecond, nil)
		}
		t.Logf("the other server went on %s after the first one died, with a lease of %s", time.Since(died).Round(time.Millisecond), pairLease)
		p.start(t, holder)
		holder = other
	}
	j, ok := p.at[0].follow(job.ID, hasEnded)
	if !ok || j.State != "succeeded" || j.Progress.Selected != count {
		t.Errorf("it ended as %+v", j)
	}
	if n := p.w.raw.XLen(t.Context(), "copy").Val(); n != count {
		t.Errorf("%d events were copied, want %d", n, count)
	}
	var group sync.WaitGroup
	for _, s := range p.server {
		s.signal(t, syscall.SIGTERM)
		group.Go(func() { <-s.ended })
	}
	group.Wait()
}
