package consumer

import (
	"strconv"
	"strings"
)

// dialect is what databases say differently. Statements are written with "?" for
// arguments, "{now}" for the database's clock and "{later}" for that many
// microseconds after it, an argument.
type dialect struct {
	name     string
	schema   string
	now      string
	later    string
	numbered bool // arguments are $1, $2, …
	// ignore and conflict make an INSERT that leaves a row alone that is there.
	ignore, conflict string
	member           string // adds or extends a member
	prune            string
	freeze           string // bounds how long a transaction may idle, in milliseconds; "" where there is no such thing
}

var (
	//nolint:gochecknoglobals // a constant
	postgreSQL = dialect{
		name: "PostgreSQL", schema: PostgreSQLSchema, numbered: true,
		now: "clock_timestamp()", later: "(clock_timestamp() + CAST(? AS bigint) * interval '1 microsecond')",
		ignore: "INSERT INTO", conflict: "ON CONFLICT DO NOTHING",
		member: `INSERT INTO reservoir_consumer_members (consumer, member, seen_until) VALUES (?, ?, {later})
			ON CONFLICT (consumer, member) DO UPDATE SET seen_until = excluded.seen_until`,
		prune: `DELETE FROM reservoir_consumer_events WHERE (consumer, event_key) IN
			(SELECT consumer, event_key FROM reservoir_consumer_events WHERE consumer = ? AND handled_at < {later} ORDER BY handled_at LIMIT 1000)`,
		freeze: "SELECT set_config('idle_in_transaction_session_timeout', ?, true)",
	}
	//nolint:gochecknoglobals // a constant
	mySQL = dialect{
		name: "MySQL", schema: MySQLSchema,
		now: "UTC_TIMESTAMP(6)", later: "(UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND)",
		ignore: "INSERT IGNORE INTO",
		member: `INSERT INTO reservoir_consumer_members (consumer, member, seen_until) VALUES (?, ?, {later})
			ON DUPLICATE KEY UPDATE seen_until = VALUES(seen_until)`,
		prune: `DELETE FROM reservoir_consumer_events WHERE consumer = ? AND handled_at < {later} ORDER BY handled_at LIMIT 1000`,
	}
)

// sql returns a statement in the dialect.
func (d *dialect) sql(statement string) string {
	statement = strings.NewReplacer("{now}", d.now, "{later}", d.later, "{ignore}", d.ignore, "{conflict}", d.conflict).Replace(statement)
	if !d.numbered {
		return statement
	}
	var b strings.Builder
	n := 0
	for _, c := range []byte(statement) {
		if c != '?' {
			b.WriteByte(c)
			continue
		}
		n++
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
	}
	return b.String()
}
