package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/reservoirhq/reservoir/chstore"
	"github.com/reservoirhq/reservoir/httpapi/api"
	"github.com/reservoirhq/reservoir/projection"
)

// rowPlace is a place among rows: behind the row with these values in the columns of the
// order, or behind so many rows where these do not tell rows apart.
type rowPlace struct {
	Values []json.RawMessage `json:"v,omitempty"`
	Skip   int               `json:"s,omitempty"`
}

// maxSkip bounds how deep one can page where no key tells rows apart.
const maxSkip = 100_000

// orderColumn is a column of the order.
type orderColumn struct {
	chstore.Column
	descending bool
}

// rowQuery is a query of rows that was checked against the table.
type rowQuery struct {
	table   chstore.Info
	columns []chstore.Column // of the table, without the lineage
	shown   []chstore.Column
	order   []orderColumn
	where   []string
	keyed   bool // the order tells rows apart: pages go by it
	limit   int
	place   rowPlace
}

// QueryRows implements api.StrictServerInterface.
func (s *Server) QueryRows(ctx context.Context, r api.QueryRowsRequestObject) (api.QueryRowsResponseObject, error) {
	d, err := s.definition(ctx, r.Projection)
	if err != nil {
		return nil, err
	}
	doc, err := s.projectionDocument(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	if doc == nil || doc.Live.Generation == 0 {
		return nil, wrongState.problem(d.Name + " was never built").withRemedy("Start a rebuild of it")
	}
	info, err := s.opts.ClickHouse.Inspect(ctx, s.opts.ClickHouse.Table(d.Table.Name))
	if err != nil {
		return nil, err
	}
	q, err := newRowQuery(info, d, r.Body, who(ctx).scope)
	if err != nil {
		return nil, err
	}
	rows, err := s.opts.ClickHouse.Query(ctx, q.statement(), q.limit+1)
	if err != nil {
		return nil, err
	}
	return q.page(rows, int64(doc.Live.Generation))
}

func newRowQuery(info chstore.Info, d *projection.Definition, body *api.RowQuery, sc scope) (*rowQuery, error) {
	q := &rowQuery{table: info, limit: body.Limit}
	for _, c := range info.Columns {
		if c.Name != chstore.ChunkColumn && c.Name != chstore.EventsColumn {
			q.columns = append(q.columns, c)
		}
	}
	if err := decodeCursor(body.Cursor, &q.place); err != nil {
		return nil, err
	}
	for i, name := range body.Columns {
		c, err := q.column(fmt.Sprintf("columns.%d", i), name)
		if err != nil {
			return nil, err
		}
		q.shown = append(q.shown, c)
	}
	if len(q.shown) == 0 {
		q.shown = q.columns
	}
	if err := q.restrict(d, sc); err != nil {
		return nil, err
	}
	for i := range body.Filters {
		if err := q.filter(fmt.Sprintf("filters.%d", i), &body.Filters[i]); err != nil {
			return nil, err
		}
	}
	if err := q.orderBy(body.Order, d); err != nil {
		return nil, err
	}
	return q, q.after()
}

func (q *rowQuery) column(field, name string) (chstore.Column, error) {
	for _, c := range q.columns {
		if c.Name == name {
			return c, nil
		}
	}
	names := make([]string, len(q.columns))
	for i, c := range q.columns {
		names[i] = c.Name
	}
	return chstore.Column{}, invalidSpec.field(field, name, "the table has no such column", "Use one of: "+strings.Join(names, ", "))
}

// restrict leaves only the rows of the caller's tenants.
func (q *rowQuery) restrict(d *projection.Definition, sc scope) error {
	if !sc.byTenant() {
		return nil
	}
	if d.Scope.Tenant == "" {
		return restrictedToken.problem("the definition of " + d.Name + " does not say which column holds the tenant").withRemedy("Add scope.tenant to it, or use a token without that restriction")
	}
	c, err := q.column("scope.tenant", d.Scope.Tenant)
	if err != nil {
		return err
	}
	q.where = append(q.where, "toString("+chstore.Identifier(c.Name)+") IN ("+chstore.Literals(sc.tenants)+")")
	return nil
}

// operators are those of SQL by those of the API.
func operators() map[api.RowFilterOp]string {
	return map[api.RowFilterOp]string{"eq": "=", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
}

func (q *rowQuery) filter(field string, f *api.RowFilter) error {
	c, err := q.column(field+".column", f.Column)
	if err != nil {
		return err
	}
	name := chstore.Identifier(c.Name)
	list := f.Op == "in" || f.Op == "not_in"
	null := f.Op == "is_null" || f.Op == "is_not_null"
	switch {
	case list != (len(f.Values) > 0):
		return invalidSpec.field(field+".values", "", "goes with in and not_in, and only with these", "Give the values, or use value")
	case (list || null) == (len(f.Value) > 0):
		return invalidSpec.field(field+".value", "", "is needed by "+string(f.Op)+", or not taken by it", "")
	}
	var condition string
	switch f.Op {
	case "is_null":
		condition = "isNull(" + name + ")"
	case "is_not_null":
		condition = "isNotNull(" + name + ")"
	case "in", "not_in":
		values := make([]string, len(f.Values))
		for i, raw := range f.Values {
			if values[i], err = bound(field+".values", raw, c); err != nil {
				return err
			}
		}
		condition = name + map[api.RowFilterOp]string{"in": " IN (", "not_in": " NOT IN ("}[f.Op] + strings.Join(values, ", ") + ")"
	case "contains", "starts_with":
		text, err := textOf(field+".value", f.Value)
		if err != nil {
			return err
		}
		function := map[api.RowFilterOp]string{"contains": "position(%s, %s) > 0", "starts_with": "startsWith(%s, %s)"}[f.Op]
		condition = fmt.Sprintf(function, "toString("+name+")", chstore.Literal(text))
	default:
		value, err := bound(field+".value", f.Value, c)
		if err != nil {
			return err
		}
		condition = name + " " + operators()[f.Op] + " " + value
	}
	q.where = append(q.where, condition)
	return nil
}

// textOf gives the text of a scalar: that of a number as it was written.
func textOf(field string, raw json.RawMessage) (string, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return "", invalidSpec.field(field, "", "is no JSON", "")
	}
	switch v := v.(type) {
	case string:
		return v, nil
	case json.Number:
		return v.String(), nil
	case bool:
		return fmt.Sprint(v), nil
	default:
		return "", invalidSpec.field(field, string(raw), "want a text, a number or a boolean", "")
	}
}

// bound makes a value of the column's type: what a client sends is only ever a text that
// the engine converts, never a part of the statement.
func bound(field string, raw json.RawMessage, c chstore.Column) (string, error) {
	text, err := textOf(field, raw)
	if err != nil {
		return "", err
	}
	return "CAST(" + chstore.Literal(text) + ", " + chstore.Literal(c.Type) + ")", nil
}

// orderBy completes the order by the columns that tell rows apart.
func (q *rowQuery) orderBy(wanted []api.RowOrder, d *projection.Definition) error {
	has := func(name string) bool {
		return slices.ContainsFunc(q.order, func(o orderColumn) bool { return o.Name == name })
	}
	for i, o := range wanted {
		c, err := q.column(fmt.Sprintf("order.%d.column", i), o.Column)
		if err != nil {
			return err
		}
		if !has(c.Name) {
			q.order = append(q.order, orderColumn{c, o.Descending})
		}
	}
	q.keyed = len(d.Keys) > 0
	for _, key := range d.Keys {
		if has(key) {
			continue
		}
		c, err := q.column("keys", key)
		if err != nil {
			q.keyed = false
			continue
		}
		q.order = append(q.order, orderColumn{c, false})
	}
	if len(q.order) == 0 { // no key: any order that stays
		for _, c := range q.columns {
			q.order = append(q.order, orderColumn{c, false})
		}
	}
	for _, o := range q.order {
		q.keyed = q.keyed && pageable(o.Type)
	}
	return nil
}

// pageable reports whether a page can go on behind a value of a type: neither NULL nor
// NaN has a place, and what is no scalar cannot be written as a text.
func pageable(kind string) bool {
	for _, prefix := range []string{"LowCardinality(String)", "String", "UInt", "Int", "Date", "DateTime", "UUID", "Decimal", "Enum", "Bool", "FixedString"} {
		if strings.HasPrefix(kind, prefix) {
			return true
		}
	}
	return false
}

// after adds the condition of the page: rows behind the last one of the page before, as
// (a > x) OR (a = x AND b > y) …
func (q *rowQuery) after() error {
	if q.place.Skip > maxSkip {
		return invalidSpec.field("cursor", "", fmt.Sprintf("rows that no key tells apart can be paged to the %dth only", maxSkip), "Narrow the query by filters, or give the projection keys")
	}
	if q.place.Skip < 0 || len(q.place.Values) > 0 && (!q.keyed || len(q.place.Values) != len(q.order)) {
		return badCursor()
	}
	if len(q.place.Values) == 0 {
		return nil
	}
	var either []string
	equal := ""
	for i, o := range q.order {
		value, err := bound("cursor", q.place.Values[i], o.Column)
		if err != nil {
			return badCursor()
		}
		sign := " > "
		if o.descending {
			sign = " < "
		}
		name := chstore.Identifier(o.Name)
		either = append(either, equal+name+sign+value)
		equal += name + " = " + value + " AND "
	}
	q.where = append(q.where, "("+strings.Join(either, " OR ")+")")
	return nil
}

// statement is the query. The columns of the order follow those that are shown.
func (q *rowQuery) statement() string {
	names := make([]string, 0, len(q.shown)+len(q.order))
	for i, c := range q.shown {
		names = append(names, fmt.Sprintf("%s AS __shown_%d", chstore.Identifier(c.Name), i))
	}
	order := make([]string, len(q.order))
	for i, o := range q.order {
		names = append(names, fmt.Sprintf("%s AS __order_%d", chstore.Identifier(o.Name), i))
		order[i] = chstore.Identifier(o.Name)
		if o.descending {
			order[i] += " DESC"
		}
	}
	text := "SELECT " + strings.Join(names, ", ") + " FROM " + q.table.Table.String()
	if q.table.Kind != chstore.Keeping {
		text += " FINAL"
	}
	if len(q.where) > 0 {
		text += " WHERE (" + strings.Join(q.where, ") AND (") + ")"
	}
	text += " ORDER BY " + strings.Join(order, ", ") + fmt.Sprintf(" LIMIT %d", q.limit+1)
	if q.place.Skip > 0 {
		text += fmt.Sprintf(" OFFSET %d", q.place.Skip)
	}
	return text
}

func (q *rowQuery) page(rows chstore.Rows, generation int64) (api.QueryRowsResponseObject, error) {
	page := api.RowPage{Columns: make([]api.RowColumn, len(q.shown)), Generation: generation}
	for i, c := range q.shown {
		page.Columns[i] = api.RowColumn{Name: c.Name, Type: c.Type}
	}
	list := rows.Rows
	if len(list) > q.limit {
		list = list[:q.limit]
		next := rowPlace{Skip: q.place.Skip + q.limit}
		if q.keyed {
			next = rowPlace{Values: list[q.limit-1][len(q.shown):]}
		}
		var err error
		if page.Next, err = encodeCursor(next); err != nil {
			return nil, err
		}
	}
	for i := range list {
		list[i] = list[i][:len(q.shown)]
	}
	page.Rows = rawRows(list)
	return api.QueryRows200JSONResponse(page), nil
}
