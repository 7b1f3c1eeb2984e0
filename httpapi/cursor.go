package httpapi

import (
	"encoding/base64"
	"encoding/json"

	"github.com/reservoirhq/reservoir/httpapi/api"
)

// encodeCursor makes the opaque text of a place in a list.
func encodeCursor(place any) (string, error) {
	text, err := json.Marshal(place)
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(text), nil
}

// decodeCursor reads what encodeCursor made. No cursor leaves place as it is.
func decodeCursor(cursor string, place any) error {
	if cursor == "" {
		return nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err == nil {
		err = json.Unmarshal(text, place)
	}
	if err != nil {
		return badCursor()
	}
	return nil
}

func badCursor() error {
	return &problemError{
		kind: invalidRequest, detail: "the cursor is none that this server gave",
		fields: []api.FieldError{{Field: "query.cursor", Message: "is none that this server gave", Remedy: "Send `next` of the page before, with the same query"}},
	}
}
