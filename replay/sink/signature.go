package sink

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/reservoirhq/reservoir/internal/remedy"
)

// The headers of Standard Webhooks 1.0.
const (
	headerWebhookID        = "Webhook-Id"
	headerWebhookTimestamp = "Webhook-Timestamp"
	headerWebhookSignature = "Webhook-Signature"
)

// secretPrefix marks a secret that is base64.
const secretPrefix = "whsec_"

// signer signs requests as Standard Webhooks 1.0 has it: the header
// webhook-signature is "v1," and the base64 of the HMAC-SHA256 of
// "id.timestamp.body". The timestamp is that of the attempt, in seconds; the ID
// stays the same over attempts.
type signer struct{ key []byte }

// newSigner reads a secret: "whsec_" and the key's base64, or the key itself.
// An empty one gives nil: requests are not signed.
func newSigner(secret string) (*signer, error) {
	if secret == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(secret, secretPrefix)
	if !ok {
		return &signer{key: []byte(secret)}, nil
	}
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) == 0 { // the error would show a part of the secret
		return nil, remedy.Wrap(fmt.Errorf("the signing secret is no base64 after %q", secretPrefix),
			"Make one with: echo whsec_$(openssl rand -base64 32)")
	}
	return &signer{key: key}, nil
}

// sign sets the headers of a request with that ID and body.
func (s *signer) sign(h http.Header, id string, body []byte, now time.Time) {
	timestamp := strconv.FormatInt(now.Unix(), 10)
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	h.Set(headerWebhookID, id)
	h.Set(headerWebhookTimestamp, timestamp)
	h.Set(headerWebhookSignature, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
}
