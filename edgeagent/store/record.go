package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// errDamaged marks a record or a file that cannot be trusted.
var errDamaged = errors.New("damaged")

// castagnoli has hardware support on amd64 and arm64.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// recordVersion begins every record, so that its encoding can change.
const recordVersion = 1

// headerLen is the version byte and the checksum.
const headerLen = 1 + crc32.Size

// encode gives the stored form of a value: version, CRC-32C of bucket, key and JSON, JSON.
// The checksum covers the place, so that a record found in another's place is damage too.
func encode(bucket, key string, v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding record %s/%s: %w", bucket, key, err)
	}
	b := make([]byte, headerLen, headerLen+len(body))
	b[0] = recordVersion
	binary.BigEndian.PutUint32(b[1:], checksum(bucket, key, body))
	return append(b, body...), nil
}

// decode reads a stored record into v, errDamaged when it cannot be trusted.
func decode(bucket, key string, b []byte, v any) error {
	if len(b) < headerLen || b[0] != recordVersion {
		return fmt.Errorf("record %s/%s: no valid header: %w", bucket, key, errDamaged)
	}
	body := b[headerLen:]
	if got, want := checksum(bucket, key, body), binary.BigEndian.Uint32(b[1:]); got != want {
		return fmt.Errorf("record %s/%s: checksum %08x, want %08x: %w", bucket, key, got, want, errDamaged)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("record %s/%s: %w: %w", bucket, key, err, errDamaged)
	}
	return nil
}

func checksum(bucket, key string, body []byte) uint32 {
	sum := crc32.Update(0, castagnoli, []byte(bucket))
	sum = crc32.Update(sum, castagnoli, []byte{0})
	sum = crc32.Update(sum, castagnoli, []byte(key))
	sum = crc32.Update(sum, castagnoli, []byte{0})
	return crc32.Update(sum, castagnoli, body)
}
