package redis

import (
	"context"
	"fmt"
	"slices"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/sipwake/sipwake/internal/pnparam"
	"github.com/sipwake/sipwake/internal/secret"
	"github.com/sipwake/sipwake/internal/store"
	"github.com/sipwake/sipwake/internal/wake"
)

// Remove implements wake.Store. With TokenOnly it needs another round trip for each
// device that stays, and starts over if that device has registered in between.
func (s *Store) Remove(ctx context.Context, r wake.Removal) (wake.RemovalResult, error) {
	if err := store.CheckRemoval(&r); err != nil {
		return wake.RemovalResult{}, fmt.Errorf("cannot remove bindings: %w", err)
	}
	var res wake.RemovalResult
	for again := true; again; {
		var err error
		if again, err = s.removeOnce(ctx, &r, &res); err != nil {
			return wake.RemovalResult{}, fmt.Errorf("cannot remove bindings of %q: %w", r.AOR, err)
		}
	}
	return res, nil
}

func (s *Store) removeOnce(ctx context.Context, r *wake.Removal, res *wake.RemovalResult) (again bool, err error) {
	var device, token, notAfter string
	if r.Device != "" {
		device = packDevice(r.Device)
	}
	if !r.Token.Empty() {
		token = string(store.AppendTokenKey(nil, r.Token))
	}
	if !r.NotAfter.IsZero() {
		notAfter = fmt.Sprint(r.NotAfter.UnixMicro())
	}
	b, _, n := s.keys(r.AOR)
	answer, err := s.run(ctx, s.remove, []string{b, n}, device, token, notAfter, flag(r.TokenOnly), flag(r.Unregistered),
		r.Reason, store.NoteKeep.Milliseconds(), store.MaxNotes)
	if err != nil {
		return false, err
	}
	a, _ := answer.([]any)
	if len(a) != 3 {
		return false, errAnswer
	}
	went, _ := a[0].([]any)
	others, _ := a[1].([]any)
	gone, err := bindings(r.AOR, went)
	if err != nil {
		return false, err
	}
	res.Bindings += len(gone)
	s.forgetTokens(ctx, gone, nil)
	if token != "" && len(went)+len(others) == 0 && a[2] != int64(1) {
		s.forgetToken(ctx, r.Token, r.AOR) // the index is out of date
	}
	for i := 0; i+1 < len(others); i += 2 {
		device, _ := others[i].(string)
		value, _ := others[i+1].(string)
		ok, err := s.cutToken(ctx, b, device, value, token)
		if err != nil {
			return false, err
		}
		if !ok {
			again = true
			continue
		}
		res.Tokens++
		s.forgetToken(ctx, r.Token, r.AOR)
	}
	return again, nil
}

// Removals implements wake.History.
func (s *Store) Removals(ctx context.Context, aor string) ([]wake.RemovalNote, error) {
	_, _, key := s.keys(aor)
	value, err := s.get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("cannot read history of %q: %w", aor, err)
	}
	list := store.ReadNotes([]byte(value), time.Now())
	for i := range list {
		list[i].Device = unpackDevice([]byte(list[i].Device))
	}
	return list, nil
}

// cutToken removes the token from the device's address. It returns false if the
// device's value has changed meanwhile.
func (s *Store) cutToken(ctx context.Context, key, device, value, token string) (bool, error) {
	rest, _, err := store.WithoutToken([]byte(value), []byte(token))
	if err != nil {
		return false, err
	}
	answer, err := s.run(ctx, s.replace, []string{key}, device, value, rest)
	return answer == int64(1), err
}

// forgetTokens removes the tokens that are gone from the token index, except those to keep.
func (s *Store) forgetTokens(ctx context.Context, gone []wake.Binding, keep []pnparam.Token) {
	for _, b := range gone {
		for _, t := range b.Address.Tokens {
			if !slices.ContainsFunc(keep, func(k pnparam.Token) bool { return k.Value == t.Value }) {
				s.forgetToken(ctx, t.Value, b.AOR)
			}
		}
	}
}

// forgetToken removes an entry of the token index. Only in a cluster it waits, because
// registerCluster's commands would overtake it. Otherwise nobody waits: an entry that
// stays is harmless and ends with the retention.
func (s *Store) forgetToken(ctx context.Context, t secret.Token, aor string) {
	// Send the whole script: nobody waits who could send it if Redis does not have it.
	f := s.submit(ctx, goredis.NewCmd(ctx, "eval", forgetScript, 1, s.tokenKey(t), aor))
	if s.config.isCluster() {
		_ = f.wait()
	}
}
