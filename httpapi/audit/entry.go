package audit

import "time"

// Entry is what somebody did.
type Entry struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"` // a ULID: sorts by time
	Time      time.Time `json:"time"`
	Who       string    `json:"who"`            // the ID of a token or of a user
	Name      string    `json:"name,omitempty"` // for people
	Role      string    `json:"role,omitempty"`
	From      string    `json:"from,omitempty"` // address of the caller
	Operation string    `json:"operation"`
	Method    string    `json:"method"`
	Path      string    `json:"path"` // with what the query says
	RequestID string    `json:"request_id"`

	Result  Result    `json:"result"`
	Status  int       `json:"status,omitempty"`  // of HTTP
	Problem string    `json:"problem,omitempty"` // what went wrong
	Subject string    `json:"subject,omitempty"` // what was made or changed
	EndedAt time.Time `json:"ended_at,omitzero"`
}

// Result is what became of it.
type Result string

// The results.
const (
	Begun   Result = "begun"   // and nobody knows how it ended: the process died
	Done    Result = "done"    // as asked
	Refused Result = "refused" // the caller may not, or cannot as asked
	Failed  Result = "failed"  // something was wrong here; it may be done or not
)
