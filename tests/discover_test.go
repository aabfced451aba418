package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// readers are the ways in which a method reads a parameter, with its JSON type.
var readers = map[string]string{"str": "string", "number": "integer", "kind": "string", "seconds": "number", "boolean": "boolean",
	"strings": "array", "stringMap": "object", "object": "object", "get": "array"}

// rpcMethods reads from the source which parameters each method takes, by name
// and type.
func rpcMethods(t *testing.T) map[string]map[string]string {
	t.Helper()
	files, err := filepath.Glob("../rpc/*.go")
	if err != nil {
		t.Fatal(err)
	}
	functions, table := map[string]map[string]string{}, map[string]string{}
	helpers := map[string][]string{} // what a function gives p to
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			params := map[string]string{}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.CallExpr:
					s, ok := n.Fun.(*ast.SelectorExpr)
					if ok && len(n.Args) > 0 && isName(s.X, "p") && readers[s.Sel.Name] != "" {
						params[text(n.Args[0])] = readers[s.Sel.Name]
					}
					if helper, ok := n.Fun.(*ast.Ident); ok && len(n.Args) == 1 && isName(n.Args[0], "p") {
						helpers[fn.Name.Name] = append(helpers[fn.Name.Name], helper.Name)
					}
				case *ast.KeyValueExpr:
					if s, ok := n.Value.(*ast.SelectorExpr); ok && fn.Name.Name == "methods" {
						table[text(n.Key)] = s.Sel.Name
					}
				}
				return true
			})
			functions[fn.Name.Name] = params
		}
	}
	methods := map[string]map[string]string{}
	for name, function := range table {
		methods[name] = functions[function]
		for _, helper := range helpers[function] {
			maps.Copy(methods[name], functions[helper])
		}
	}
	return methods
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

func text(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok {
		if s, err := strconv.Unquote(l.Value); err == nil {
			return s
		}
	}
	return ""
}

// rpc.discover names every method and every parameter that the code reads, and no
// other; docs/RPC.md names every method too.
func TestRPCDiscover(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	var doc struct {
		OpenRPC string
		Methods []struct {
			Name, Summary string
			Params        []struct {
				Name, Description string
				Schema            struct{ Type string }
			}
			Result struct{ Schema map[string]any }
		}
	}
	r.call("rpc.discover", nil, &doc)
	if !strings.HasPrefix(doc.OpenRPC, "1.") {
		t.Errorf("openrpc: %q", doc.OpenRPC)
	}
	described := map[string]map[string]string{}
	manual := readDoc(t, "docs/RPC.md")
	for _, m := range doc.Methods {
		params := map[string]string{}
		for _, p := range m.Params {
			params[p.Name] = p.Schema.Type
			if p.Description == "" {
				t.Errorf("%s: %s is not described", m.Name, p.Name)
			}
		}
		if m.Summary == "" || len(m.Result.Schema) == 0 {
			t.Errorf("%s has no summary or result", m.Name)
		}
		described[m.Name] = params
		if !strings.Contains(manual, m.Name) && m.Name != "wake.progress" {
			t.Errorf("docs/RPC.md does not name %s", m.Name)
		}
	}
	code := rpcMethods(t)
	if len(code) < 10 || len(code["wake.start"]) < 10 {
		t.Fatalf("cannot read the methods: %v", code)
	}
	if d := cmp.Diff(code, described); d != "" {
		t.Errorf("the code -, rpc.discover +:\n%s", d)
	}
}

// binding.export is only for callers that showed a token.
func TestRPCExportIsGuarded(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{rpc: "  token_files: [" + writeTemp(t, "c093-bearer-token") + "]"})
	for _, method := range []string{"binding.export", "binding.import", "store.backup"} {
		r.auth = ""
		if status, _ := r.post(`{"jsonrpc":"2.0","id":1,"method":"` + method + `"}`); status != 401 {
			t.Errorf("%s without a token: %d", method, status)
		}
	}
	r.auth = "c093-bearer-token"
	contact := apnsContact("bob", apnsToken(1))
	r.register("bob@example.com", contact, nil)
	if _, answer := r.post(`{"jsonrpc":"2.0","id":1,"method":"binding.export"}`); !strings.Contains(string(answer), apnsToken(1)) {
		t.Errorf("with a token: %s", answer)
	}
	if _, answer := r.post(`{"jsonrpc":"2.0","id":1,"method":"binding.list","params":{"all":true}}`); strings.Contains(string(answer), apnsToken(1)) ||
		!strings.Contains(string(answer), "bob@example.com") {
		t.Errorf("binding.list: %s", answer)
	}
	if e := r.try("binding.export", obj{"cursor": "none"}, nil); e == nil || e.Data.Field != "cursor" {
		t.Errorf("unknown cursor: %+v", e)
	}
	if strings.Contains(r.logs.String(), apnsToken(1)) {
		t.Error("the log has the token")
	}
}
