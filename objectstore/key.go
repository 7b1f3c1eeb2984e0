package objectstore

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxKey     = 1024 // bytes; S3's limit
	maxElement = 255  // bytes; file systems' limit
)

// ValidateKey says whether every Store takes the key: 1 to 1024 bytes of UTF-8
// without control characters, in elements of 1 to 255 bytes between single
// slashes, none of them "." or "..", with no slash at either end.
func ValidateKey(key string) error {
	err := checkKey(key)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("is empty")
	case len(key) > maxKey:
		return fmt.Errorf("is longer than %d bytes", maxKey)
	case !utf8.ValidString(key):
		return errors.New("is not valid UTF-8")
	case strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("has a control character")
	}
	for element := range strings.SplitSeq(key, "/") {
		switch {
		case element == "":
			return errors.New("has an empty element")
		case element == "." || element == "..":
			return fmt.Errorf("has the element %q", element)
		case len(element) > maxElement:
			return fmt.Errorf("has an element longer than %d bytes", maxElement)
		}
	}
	return nil
}
