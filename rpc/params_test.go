package rpc

import (
	"errors"
	"strings"
	"testing"

	"github.com/valyala/fastjson"

	"github.com/sipwake/sipwake/internal/wake"
)

// An error names what an object has wrong if that is a name; it quotes nothing else, for
// it may be a token that is in the wrong place.
func TestErrorsNameNamesOnly(t *testing.T) {
	token := strings.Repeat("8fe1", 16)
	for key, want := range map[string]string{"X-MPUSH": `headers."X-MPUSH"`, token: "headers", "a b": "headers", "": "headers", "é": "headers", "a b c": "headers"} {
		p := newParams(fastjson.MustParse(`{"headers":{"` + key + `":1}}`))
		p.stringMap("headers")
		if bad := (*wake.ParamError)(nil); !errors.As(p.err, &bad) || bad.Field != want || strings.Contains(p.err.Error(), token) {
			t.Errorf("%q: %v", key, p.err)
		}
	}
}
