package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// pingEvery is how often Redis is asked whether it still answers.
const pingEvery = 5 * time.Millisecond

// during does the work, and tells what it meant for Redis.
func (b *replayBench) during(ctx context.Context, work func() error) (l load, err error) {
	before, err := b.redisCPU(ctx)
	if err != nil {
		return l, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var times []time.Duration
	pinged := make(chan error, 1)
	go func() {
		var err error
		times, err = pings(ctx, b.redis.Addr())
		pinged <- err
	}()
	err = work()
	stop()
	if err := errors.Join(err, <-pinged); err != nil {
		return l, err
	}
	after, err := b.redisCPU(context.WithoutCancel(ctx))
	if err != nil {
		return l, err
	}
	if len(times) > 0 {
		slices.Sort(times)
		l.ping = times[len(times)*95/100]
	}
	l.cpu = after - before
	return l, nil
}

// pings returns how long PING took, each time until ctx ends.
func pings(ctx context.Context, addr string) (times []time.Duration, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	replies := bufio.NewReader(conn)
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return times, nil
		case <-tick.C:
		}
		began := time.Now()
		if _, err := conn.Write([]byte("PING\r\n")); err != nil {
			return times, err
		}
		if _, err := replies.ReadString('\n'); err != nil {
			return times, err
		}
		times = append(times, time.Since(began))
	}
}

// redisCPU returns the CPU time of Redis's main thread so far.
func (b *replayBench) redisCPU(ctx context.Context) (sum time.Duration, err error) {
	info, err := b.admin.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("redis's CPU time: %w", err)
	}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_user_main_thread" && name != "used_cpu_sys_main_thread" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("redis's CPU time: %w", err)
		}
		sum += time.Duration(seconds * float64(time.Second))
	}
	return sum, nil
}
