package opensips

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/sipwake/sipwake/internal/node"
	"github.com/sipwake/sipwake/internal/upper"
)

var _ upper.Node = Node{}

// upperEvent has the parameters of gateway.cfg's event.
type upperEvent struct {
	Key           string `json:"key"` // under which the script stores it
	Call          string `json:"call"`
	AOR           string `json:"aor"`
	Server        string `json:"server"`
	URI           string `json:"uri"`
	To            string `json:"to"`
	Contact       string `json:"contact"`
	Expires       string `json:"expires"`
	Authorization string `json:"authorization"`
}

// RegisterUpper implements upper.Node, for a node that runs gateway.cfg. A contact
// belongs to one OpenSIPS: no other one refreshes it.
func (n Node) RegisterUpper(ctx context.Context, r upper.Request) error {
	ctx, cancel := n.Bound(ctx)
	defer cancel()
	if r.Node != n.ID || r.Contact == "" {
		return fmt.Errorf("cannot register a user of %q through node %q: %w", r.Node, n.ID, upper.ErrRefused)
	}
	params, err := json.Marshal(upperEvent{Key: rand.Text(), Call: r.Key, AOR: r.AOR, Server: r.Server, URI: r.URI, To: r.To, Contact: r.Contact,
		Expires: strconv.Itoa(r.Expires), Authorization: r.Authorization})
	if err == nil {
		err = n.Call(ctx, "raise_event", map[string]string{"event": "E_GW_UPPER", "params": string(params)}, nil)
	}
	if said := (*node.Error)(nil); errors.As(err, &said) {
		err = fmt.Errorf("%w: %w", upper.ErrRefused, err) // the node runs another script
	}
	if err != nil {
		return fmt.Errorf("cannot register a user through node %q: %w", n.ID, err)
	}
	return nil
}
