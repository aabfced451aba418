package fcm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"firebase.google.com/go/v4/messaging"
	api "google.golang.org/api/fcm/v1"
	"google.golang.org/api/googleapi"
)

// targets are the fields of a Message that no template may set.
var targets = []string{"token", "fid", "topic", "condition", "name"}

// checkMessage finds what is wrong with a filled template, using Google's own
// description of the API and the SDK's output. Anything that would be dropped
// silently is an error.
func checkMessage(payload []byte) error {
	const prefix = "it is not a Message of the FCM v1 API: "
	var message map[string]any
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&message); err != nil {
		return errors.New(prefix + jsonProblem(err))
	}
	for _, name := range targets {
		if _, ok := message[name]; ok {
			return fmt.Errorf("%sunknown field %q", prefix, name)
		}
	}
	if problem := mismatch(message, reflect.TypeFor[api.Message](), ""); problem != "" {
		return errors.New(prefix + problem)
	}
	if message["android"] != nil && message["android_v2"] != nil {
		return errors.New(prefix + "android and android_v2 exclude each other")
	}
	m := new(messaging.Message)
	if err := json.Unmarshal(payload, m); err != nil {
		if wrongType := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrongType) {
			return errors.New(prefix + jsonProblem(err))
		}
		return errors.New(prefix + strings.TrimPrefix(err.Error(), "json: ")) // it quotes at most the sample
	}
	said, err := json.Marshal(m)
	if err != nil {
		return errors.New(prefix + jsonProblem(err))
	}
	for _, path := range unsaid {
		if said, err = path.copy(payload, said); err != nil {
			return errors.New(prefix + jsonProblem(err))
		}
	}
	var left any
	if err := json.Unmarshal(said, &left); err != nil {
		return fmt.Errorf("%scannot read it again: %w", prefix, err)
	}
	if path := lost(message, left); path != "" {
		return fmt.Errorf("%s%s would not reach Google", prefix, path)
	}
	return nil
}

// mismatch returns where v has a field that t lacks, or a value of another type.
// Templates use the field names of Google's documents, with underscores. The JSON
// names of t are the same in camel case.
func mismatch(v any, t reflect.Type, path string) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if v == nil || t == reflect.TypeFor[googleapi.RawMessage]() {
		return ""
	}
	want := ""
	switch t.Kind() {
	case reflect.Struct:
		object, ok := v.(map[string]any)
		if ok {
			return fieldMismatch(object, t, path)
		}
		want = "JSON object"
	case reflect.Map: // of strings
		object, ok := v.(map[string]any)
		if !ok {
			want = "JSON object"
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if _, ok := object[key].(string); !ok {
				want = "string"
			}
		}
	case reflect.Slice: // of strings
		if _, ok := v.([]any); !ok {
			want = "list"
		}
	case reflect.String:
		if _, ok := v.(string); !ok {
			want = "string"
		}
	case reflect.Bool:
		if _, ok := v.(bool); !ok {
			want = "boolean"
		}
	default:
		if _, ok := v.(json.Number); !ok {
			want = "number"
		}
	}
	if want == "" {
		return ""
	}
	return fmt.Sprintf("%s must be a %s", path, want)
}

func fieldMismatch(object map[string]any, t reflect.Type, path string) string {
	types := make(map[string]reflect.Type)
	for i := range t.NumField() {
		f := t.Field(i)
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
			types[underscored(name)] = f.Type
		}
	}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		at := strings.TrimPrefix(path+"."+key, ".")
		if types[key] == nil {
			return fmt.Sprintf("unknown field %q", at)
		}
		if problem := mismatch(object[key], types[key], at); problem != "" {
			return problem
		}
	}
	return ""
}

// underscored converts fooBar to foo_bar.
func underscored(s string) string {
	var b strings.Builder
	for _, c := range s {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// lost returns the path of something that is in v but not in left. A zero value means
// the same as an absent one (proto3).
func lost(v, left any) string {
	below := func(name string, v, left any, ok bool) string {
		path := ""
		switch {
		case !ok && !zero(v):
			return name
		case ok:
			path = lost(v, left)
		}
		if path == "" {
			return ""
		}
		return name + "." + path
	}
	switch v := v.(type) {
	case map[string]any:
		left, _ := left.(map[string]any)
		for _, key := range slices.Sorted(maps.Keys(v)) {
			item, ok := left[key]
			if path := below(key, v[key], item, ok); path != "" {
				return path
			}
		}
	case []any:
		left, _ := left.([]any)
		for i := range v {
			var item any
			if i < len(left) {
				item = left[i]
			}
			if path := below(strconv.Itoa(i), v[i], item, i < len(left)); path != "" {
				return path
			}
		}
	}
	return ""
}

func zero(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case bool:
		return !v
	case json.Number:
		f, err := v.Float64()
		return err == nil && f == 0
	}
	return false
}
