package sink_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/reservoirhq/reservoir/internal/remedy"
	"github.com/reservoirhq/reservoir/replay"
	"github.com/reservoirhq/reservoir/replay/sink"
	"github.com/reservoirhq/reservoir/replay/sinktest"
)

const partitions = 3

// kafkaProtocol starts something that speaks Kafka's protocol. It is no Kafka:
// these tests check what is sent, and not what a real broker makes of it.
func kafkaProtocol(t testing.TB, topics ...string) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, topics...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newKafkaKind() replay.SinkKind {
	return sink.NewKafka(sink.Config{AllowHosts: sink.Hosts{"127.0.0.1"}})
}

// kafkaMessages reads what a topic holds, partition by partition.
func kafkaMessages(t testing.TB, c *kfake.Cluster, topic string) (all []*sarama.ConsumerMessage) {
	t.Helper()
	config := sarama.NewConfig()
	config.Consumer.MaxWaitTime = 10 * time.Millisecond
	client, err := sarama.NewClient(c.ListenAddrs(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	consumer := must[sarama.Consumer](t)(sarama.NewConsumerFromClient(client))
	defer consumer.Close()
	for p := range int32(partitions) {
		end := must[int64](t)(client.GetOffset(topic, p, sarama.OffsetNewest))
		if end == 0 {
			continue
		}
		pc := must[sarama.PartitionConsumer](t)(consumer.ConsumePartition(topic, p, sarama.OffsetOldest))
		for len(all) == 0 || all[len(all)-1].Partition != p || all[len(all)-1].Offset < end-1 {
			select {
			case m := <-pc.Messages():
				all = append(all, m)
			case <-time.After(10 * time.Second):
				t.Fatalf("partition %d ends at %d, and gives no more", p, end)
			}
		}
		if err := pc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func kafkaHeader(m *sarama.ConsumerMessage, name string) string {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

func TestKafkaConformance(t *testing.T) {
	topics := make([]string, 40)
	for i := range topics {
		topics[i] = fmt.Sprintf("target%d", i)
	}
	c, kind, n := kafkaProtocol(t, topics...), newKafkaKind(), 0
	sinktest.Run(t, sinktest.Harness{Kind: kind, Target: func(t testing.TB) sinktest.Target {
		topic := topics[n]
		n++
		return sinktest.Target{
			Options: options(t, kind, strings.Join(c.ListenAddrs(), ",")+"/"+topic),
			Read: func(t testing.TB) (ids []string) {
				for _, m := range kafkaMessages(t, c, topic) {
					ids = append(ids, kafkaHeader(m, "event_id"))
				}
				return ids
			},
		}
	}})
}

func TestKafkaMessage(t *testing.T) {
	c, kind, all := kafkaProtocol(t, "in-_sinktest__0", "in-_sinktest__1"), newKafkaKind(), sinktest.Events()
	raw := options(t, kind, "kafka://"+strings.Join(c.ListenAddrs(), ",")+"/in-{stream}", "format", "raw", "max_message_bytes", "2000")
	target := must[replay.Target](t)(kind.Check(t.Context(), sinktest.Opening(raw, "", 0)))
	if len(target.Warnings) > 0 || target.Guarantee != replay.AtLeastOnce {
		t.Errorf("%+v", target)
	}
	out := must[replay.Sink](t)(kind.Open(t.Context(), sinktest.Opening(raw, "job-1", 1)))
	defer out.Close()
	part := slices.Clone(all[:20])
	part[7].Payload = `"` + strings.Repeat("x", 3000) + `"`
	if got := rejections(t, out.Write(t.Context(), sinktest.BatchOf(part))); !slices.Equal(got, []int{7}) {
		t.Errorf("rejected %v, want the one that is too large", got)
	}
	got := kafkaMessages(t, c, "in-_sinktest__0")
	if len(got) != 19 {
		t.Fatalf("the topic has %d messages", len(got))
	}
	byKey := map[string]int32{}
	for _, m := range got {
		if p, known := byKey[string(m.Key)]; known && p != m.Partition {
			t.Errorf("key %s is in two partitions", m.Key)
		}
		byKey[string(m.Key)] = m.Partition
	}
	m := got[slices.IndexFunc(got, func(m *sarama.ConsumerMessage) bool { return kafkaHeader(m, "event_id") == "e0-3" })]
	want := `{"id":"1700000000001-0","fields":{"event_id":"e0-3","event_type":"Tested","aggregate_id":"a0-3","payload":{"n":3}}}`
	if string(m.Key) != "a0-3" || string(m.Value) != want {
		t.Errorf("%s: %s", m.Key, m.Value)
	}
	for name, want := range map[string]string{"idempotency-key": "e0-3", "reservoir_stream": "{sinktest}:0", "content-type": "application/json"} {
		if v := kafkaHeader(m, name); v != want {
			t.Errorf("%s: %q, want %q", name, v, want)
		}
	}
}

func TestKafkaIsDown(t *testing.T) {
	c, kind := kafkaProtocol(t, "in"), newKafkaKind()
	address := strings.Join(c.ListenAddrs(), ",")
	if _, err := kind.Check(t.Context(), sinktest.Opening(options(t, kind, address+"/other"), "", 0)); err == nil || !strings.Contains(remedy.Of(err), "Create topic other") {
		t.Errorf("check of a topic that is not there: %v", err)
	}
	far := sinktest.Opening(options(t, kind, "broker.example/in"), "", 0)
	if _, err := kind.Check(t.Context(), far); !errors.Is(err, sink.ErrHostNotAllowed) {
		t.Errorf("check of another host: %v", err)
	}
	o := sinktest.Opening(options(t, kind, address+"/in", "timeout", "500ms"), "job", 1)
	out := must[replay.Sink](t)(kind.Open(t.Context(), o))
	defer out.Close()
	c.Close()
	if err := out.Write(t.Context(), sinktest.BatchOf(sinktest.Events()[:10])); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	if _, err := kind.Open(t.Context(), o); !errors.Is(err, replay.ErrUnavailable) {
		t.Errorf("open: %v", err)
	}
}
