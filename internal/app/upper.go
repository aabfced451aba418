package app

import (
	"context"

	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/upper"
	"github.com/sipwake/sipwake/internal/wake"
)

// bindings gives package upper what it needs from the rules.
type bindings struct{ rules *wake.Service }

func (b bindings) Bound(ctx context.Context, aor string) (int, error) {
	list, err := b.rules.Bindings(ctx, aor, secret.Token{})
	return len(list), err
}

func (b bindings) Unbind(ctx context.Context, aor string) error {
	_, err := b.rules.RemoveBindings(ctx, wake.Caller{}, aor, "", secret.Token{})
	return err
}

// registrars are the nodes that can register users at a PBX.
func registrars(nodes map[string]wake.Node) map[string]upper.Node {
	can := make(map[string]upper.Node)
	for id, n := range nodes {
		if u, ok := n.(upper.Node); ok {
			can[id] = u
		}
	}
	return can
}
