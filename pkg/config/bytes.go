package config

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Bytes is a size in bytes. It is written as 1GiB, 512MiB, 64KiB, 2TiB or plain digits, without sign or fraction.
type Bytes int64

// units from the largest, as IEC 80000-13 names them.
var units = [...]struct {
	suffix string
	size   Bytes
}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

var errSize = errors.New("not a size")

// UnmarshalText reads a size. The error doesn't repeat the text.
func (b *Bytes) UnmarshalText(text []byte) error {
	digits, size := string(text), Bytes(1)
	for _, unit := range units {
		if rest, ok := strings.CutSuffix(digits, unit.suffix); ok {
			digits, size = rest, unit.size
			break
		}
	}
	n, err := strconv.ParseUint(digits, 10, 63) // unsigned, to refuse signs
	if err != nil || Bytes(n) > math.MaxInt64/size {
		return errSize
	}
	*b = Bytes(n) * size
	return nil
}

// String returns the size with the largest unit that leaves no fraction.
func (b Bytes) String() string {
	for _, unit := range units {
		if b != 0 && b%unit.size == 0 {
			return strconv.FormatInt(int64(b/unit.size), 10) + unit.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}

// MarshalText returns String.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }
