package projection

import (
	"fmt"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
)

// TablePlaceholder stands for the table in checks and in the SELECT of a
// dependent.
const TablePlaceholder = "{table}"

// fault is what is wrong at a line of a statement.
type fault struct {
	line   int // from 0
	what   string
	remedy string
}

// rowWise finds what makes a SELECT more than a function of each event by
// itself, as far as its words tell; the engine is asked for the rest.
func rowWise(text string) []fault {
	return (&rowWiseCheck{tokens: tokens(text), relation: chstore.EventsRelation, shown: chstore.EventsRelation, alone: eventAlone}).check()
}

// dependentFaults is rowWise for the SELECT of a dependent, over rows. Where the engine
// adds rows up, the SELECT may add up too: any part of the rows by itself.
func dependentFaults(text string, adds bool) []fault {
	const relation = "_reservoir_table"
	text = strings.ReplaceAll(text, TablePlaceholder, relation)
	return (&rowWiseCheck{tokens: tokens(text), relation: relation, shown: TablePlaceholder, alone: rowAlone, groups: adds}).check()
}

func (c *rowWiseCheck) check() []fault {
	if len(c.tokens) == 0 || !c.tokens[0].is("SELECT") && !c.tokens[0].is("WITH") {
		return []fault{{what: "it is no SELECT", remedy: "write SELECT … FROM " + c.shown}}
	}
	c.levels = []level{{}}
	for i := range c.tokens {
		c.step(i)
	}
	if !c.reads && len(c.found) == 0 {
		c.found = append(c.found, fault{what: "it does not read " + c.shown, remedy: "write SELECT … FROM " + c.shown})
	}
	return c.found
}

// level is a pair of parentheses.
type level struct {
	query bool // holds a SELECT
}

type rowWiseCheck struct {
	tokens   []token
	relation string // that it reads, and how people write it
	shown    string
	alone    string // why rows are made one by one
	groups   bool   // GROUP BY is right
	levels   []level
	reads    bool // FROM the relation was seen
	found    []fault
}

func (c *rowWiseCheck) fault(i int, remedy, format string, args ...any) {
	c.found = append(c.found, fault{c.tokens[i].line, fmt.Sprintf(format, args...), remedy})
}

// at returns a token, or none beyond the ends.
func (c *rowWiseCheck) at(i int) token {
	if i < 0 || i >= len(c.tokens) {
		return token{kind: symbolToken}
	}
	return c.tokens[i]
}

const eventAlone = "each row is made of one event: rows of several events are what SummingMergeTree, AggregatingMergeTree, a dependent table or a fold are for"

const rowAlone = "each row is made of one row of the projection's table; SummingMergeTree and AggregatingMergeTree, whose SELECT may have GROUP BY, add up"

func (c *rowWiseCheck) step(i int) {
	t := c.tokens[i]
	here := &c.levels[len(c.levels)-1]
	switch {
	case t.symbol("("):
		c.levels = append(c.levels, level{})
		return
	case t.symbol(")"):
		if len(c.levels) > 1 {
			c.levels = c.levels[:len(c.levels)-1]
		}
		return
	case t.symbol(";"):
		c.fault(i, "remove it and what follows", "it is one statement, without a semicolon")
		return
	}
	if t.kind != wordToken || c.at(i-1).symbol(".") || c.at(i-1).is("AS") {
		return
	}
	if t.is("SELECT") {
		c.query(i, here)
		return
	}
	if c.at(i+1).symbol("(") && unrepeatable(t.text) {
		c.fault(i, "use what the event says: occurred_at, id_ms, event_id", "%s gives another value each time", t.text)
	}
	if here.query {
		c.clause(i)
	}
}

// unrepeatable reports whether a function of ClickHouse gives another value, or
// one for other rows, when it is called again for the same event.
func unrepeatable(function string) bool {
	name := strings.ToLower(function)
	if strings.HasPrefix(name, "rand") || strings.HasPrefix(name, "generate") {
		return true
	}
	switch name {
	case "now", "now64", "nowinblock", "today", "yesterday", "current_timestamp", "utctimestamp", "utc_timestamp", "curdate", "current_date",
		"fuzzbits", "rownumberinblock", "rownumberinallblocks", "blocknumber", "blocksize", "neighbor", "runningaccumulate",
		"runningdifference", "runningdifferencestartingwithfirstvalue", "runningconcurrency", "hostname", "fqdn", "uptime",
		"currentuser", "user", "currentdatabase", "connectionid", "queryid", "initialqueryid", "getsetting", "filesystemavailable":
		return true
	}
	return false
}

// query looks where a SELECT begins.
func (c *rowWiseCheck) query(i int, here *level) {
	switch before := c.at(i - 1); {
	case here.query:
		c.fault(i, "write one SELECT, or two projections", "it is more than one SELECT")
	case before.symbol("(") && !c.at(i-2).is("FROM"):
		c.fault(i, "read other tables with dictGet, and nest only as FROM (SELECT …)", "a subquery that is not what FROM reads")
	}
	here.query = true
}

// clause looks at a word of a query.
func (c *rowWiseCheck) clause(i int) {
	t, next := c.tokens[i], c.at(i+1)
	switch {
	case t.is("FROM"):
		c.from(i)
	case t.is("JOIN") && !c.at(i-1).is("ARRAY"):
		c.fault(i, "read other tables with dictGet", "JOIN: rows must depend on the event alone")
	case (t.is("GROUP") || t.is("ORDER")) && next.is("BY"):
		if c.groups && t.is("GROUP") {
			return
		}
		c.fault(i, c.alone, "%s BY", strings.ToUpper(t.text))
	case t.is("HAVING") || t.is("QUALIFY"):
		c.fault(i, "use WHERE; "+c.alone, "%s", strings.ToUpper(t.text))
	case t.is("DISTINCT") && (c.at(i-1).is("SELECT") || c.at(i-1).symbol("(")):
		c.fault(i, c.alone, "DISTINCT")
	case (t.is("LIMIT") || t.is("OFFSET")) && (next.kind == numberToken || next.kind == wordToken && !next.is("FROM")):
		c.fault(i, c.alone, "%s", strings.ToUpper(t.text))
	case t.is("OVER") && c.at(i-1).symbol(")"):
		c.fault(i, c.alone, "OVER: a window function")
	case t.is("FORMAT") && next.kind == wordToken && c.at(i+2).text == "":
		c.fault(i, "remove it", "FORMAT")
	case t.is("SETTINGS") && c.at(i+2).symbol("="):
		c.fault(i, "remove it: Reservoir sends the settings", "SETTINGS")
	}
}

// from looks at what FROM reads.
func (c *rowWiseCheck) from(i int) {
	switch next := c.at(i + 1); {
	case next.symbol("("):
	case next.is(c.relation) || next.kind == identToken && trimQuotes(next.text) == c.relation:
		c.reads = true
		if after := c.at(i + 2); after.symbol(",") || after.symbol(".") {
			c.fault(i+1, "read "+c.shown+" alone", "FROM reads more than that")
		}
	default:
		c.fault(i, "write FROM "+c.shown+"; read other tables with dictGet", "it reads %.60q", next.text)
	}
}

func trimQuotes(text string) string {
	if len(text) < 2 {
		return text
	}
	return text[1 : len(text)-1]
}
