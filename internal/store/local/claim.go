package local

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/bbolt"
)

func bucketClaims() []byte    { return []byte("claims") }
func bucketClaimEnds() []byte { return []byte("claimends") }

var errClaim = errors.New("a key that is not too long and a time are needed")

// Claim implements wake.Sweeper. A claim is on disk before it is granted.
func (s *Store) Claim(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	granted, err := false, errClaim
	if key != "" && len(key) <= bbolt.MaxKeySize-8 && ttl > 0 {
		taken := false
		err = s.view(ctx, func(r reader) error {
			taken = claimed(r.table(bucketClaims()), key, time.Now())
			return nil
		})
		if err == nil && !taken { // as of this read; the write decides
			err = s.writer.do(ctx, func(tx *writeTx) error {
				now := time.Now()
				if claimed(tx.table(bucketClaims()), key, now) {
					return nil
				}
				granted = true
				return claim(tx, key, now, now.Add(ttl))
			})
		}
	}
	if err != nil {
		return false, fmt.Errorf("cannot claim %q: %w", key, err)
	}
	return granted, nil
}

// Release implements wake.Sweeper. The release is on disk when it returns.
func (s *Store) Release(ctx context.Context, key string) error {
	err := s.writer.do(ctx, func(tx *writeTx) error {
		claims := tx.table(bucketClaims())
		end := append(slices.Clone(claims.Get([]byte(key))), key...)
		if len(end) == len(key) {
			return nil
		}
		if err := tx.table(bucketClaimEnds()).Delete(end); err != nil {
			return err
		}
		return claims.Delete([]byte(key))
	})
	if err != nil {
		return fmt.Errorf("cannot release claim of %q: %w", key, err)
	}
	return nil
}

func claimed(claims keyed, key string, now time.Time) bool {
	v := claims.Get([]byte(key))
	return len(v) == 8 && int64(binary.BigEndian.Uint64(v)) > now.UnixMicro()
}

// claim writes a claim and removes some claims that have ended.
func claim(tx *writeTx, key string, now, until time.Time) error {
	claims, ends := tx.table(bucketClaims()), tx.table(bucketClaimEnds())
	for _, k := range first(ends, now, cleanMost) {
		if err := ends.Delete(k); err != nil {
			return err
		}
		if claimed(claims, string(k[8:]), now) {
			continue
		}
		if err := claims.Delete(k[8:]); err != nil {
			return err
		}
	}
	end := timeKey(until, key)
	if err := ends.Put(end, nil); err != nil {
		return err
	}
	return claims.Put([]byte(key), end[:8])
}
