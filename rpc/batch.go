package rpc

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

// batchWorkers is how many requests of a batch run concurrently.
const batchWorkers = 16

// batch answers the requests of a batch, which run concurrently. The whole batch has
// the deadline of one request. Requests that have not begun by then are refused.
func (s *Server) batch(ctx *fasthttp.RequestCtx, items []*fastjson.Value, st *settings, asked sent) {
	if len(items) == 0 || len(items) > st.MaxBatch {
		s.refuse(ctx, &rpcError{Code: codeInvalid, Message: fmt.Sprintf("invalid request: a batch holds 1 to %d requests", st.MaxBatch)})
		return
	}
	var (
		answers = make([][]byte, len(items))
		next    atomic.Int64
		workers sync.WaitGroup
	)
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= len(items) {
				return
			}
			if answer, _, reply := s.one(make([]byte, 0, 256), items[i], st, asked, time.Now()); reply {
				answers[i] = answer
			}
		}
	}
	for range min(batchWorkers, int(s.gate.most), len(items)) - 1 {
		workers.Go(work)
	}
	work()
	workers.Wait()

	dst := []byte{'['}
	for _, answer := range answers {
		if answer == nil {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, ',')
		}
		dst = append(dst, answer...)
	}
	if len(dst) == 1 {
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	}
	ctx.Response.SetBodyRaw(append(dst, ']'))
}
