package parquet

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/format"
)

// codec compresses a Writer's pages by zstd, with entropy coding of the literals
// even where no match was found. Ids in hexadecimal, most of an event's bytes, are
// otherwise stored almost as they are.
type codec struct {
	encoder *zstd.Encoder
	decoder *zstd.Decoder // made on first use
}

func newCodec(level zstd.EncoderLevel) (*codec, error) {
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(level),
		zstd.WithAllLitEntropyCompression(true),
		zstd.WithEncoderCRC(false), // every page has a checksum of its own
		zstd.WithZeroFrames(true),
		zstd.WithWindowSize(compressionWindow),
	)
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &codec{encoder: encoder}, nil
}

// compressionWindow is enough to look back over a whole page.
const compressionWindow = 512 << 10

// String implements compress.Codec.
func (c *codec) String() string { return "ZSTD" }

// CompressionCodec implements compress.Codec.
func (c *codec) CompressionCodec() format.CompressionCodec { return format.Zstd }

// Encode implements compress.Codec.
func (c *codec) Encode(dst, src []byte) ([]byte, error) {
	return c.encoder.EncodeAll(src, dst[:0]), nil
}

// Decode implements compress.Codec. The library reads pages back to fill the
// bloom filters.
func (c *codec) Decode(dst, src []byte) ([]byte, error) {
	if c.decoder == nil {
		decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, fmt.Errorf("make zstd decoder: %w", err)
		}
		c.decoder = decoder
	}
	return c.decoder.DecodeAll(src, dst[:0])
}
