package depend_test

import (
	"context"
	"errors"
	"testing"

	"example.com/base-app/pkg/depend"
)

func BenchmarkDo(b *testing.B) {
	d, ctx := add(b, depend.Policy{}), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Do(ctx, ok); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefusal(b *testing.B) {
	d, ctx := add(b, depend.Policy{Failures: 1, Cooldown: 1 << 60}), context.Background()
	_ = d.Do(ctx, down)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Do(ctx, ok); !errors.Is(err, depend.ErrOpen) {
			b.Fatal(err)
		}
	}
}
