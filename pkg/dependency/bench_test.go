package dependency_test

import (
	"context"
	"errors"
	"testing"

	"example.com/base-app/pkg/dependency"
)

func BenchmarkDo(b *testing.B) {
	d, ctx := add(b, dependency.Policy{}), context.Background()
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Do(ctx, ok); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRefusal(b *testing.B) {
	d, ctx := add(b, dependency.Policy{Failures: 1, Cooldown: 1 << 60}), context.Background()
	_ = d.Do(ctx, down)
	b.ReportAllocs()
	for b.Loop() {
		if err := d.Do(ctx, ok); !errors.Is(err, dependency.ErrOpen) {
			b.Fatal(err)
		}
	}
}
