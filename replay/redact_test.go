package replay_test

import (
	"testing"

	"github.com/reservoirhq/reservoir/replay"
)

func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		`{"url":"redis://bob:hunter2@host:6379/0","stream":"{stream}:copy"}`: `{"url":"redis://bob:***@host:6379/0","stream":"{stream}:copy"}`,
		`redis://:hunter2@host`:                                                               `redis://:***@host`,
		`{"url":"redis://bob:${RESERVOIR_SINK_PASSWORD}@host"}`:                               `{"url":"redis://bob:${RESERVOIR_SINK_PASSWORD}@host"}`,
		`{"password":"a\"b","username":"bob"}`:                                                `{"password":"***","username":"bob"}`,
		`{"headers":{"Authorization":"Bearer x"},"secret": "${RESERVOIR_SINK_SECRET}"}`:       `{"headers":{"Authorization":"***"},"secret": "${RESERVOIR_SINK_SECRET}"}`,
		`{"url":"https://host/path?a=1\u0026token=abc\u0026b=2"}`:                             `{"url":"https://host/path?a=1\u0026token=***\u0026b=2"}`,
		`https://host/path?key=abc&b=2`:                                                       `https://host/path?key=***&b=2`,
		`{"streams":["shop:*"],"filter":{"where":"fields.a == 'b:c@d'"},"sink":{"type":"x"}}`: `{"streams":["shop:*"],"filter":{"where":"fields.a == 'b:c@d'"},"sink":{"type":"x"}}`,
	} {
		if got := string(replay.Redact([]byte(text))); got != want {
			t.Errorf("%s\ngives %s\nwant  %s", text, got, want)
		}
	}
}
