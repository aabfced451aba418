package main

import (
	"strings"
	"testing"
)

// The figures are added up by what people ask for; what is zero is left out.
func TestPrintStats(t *testing.T) {
	var got strings.Builder
	err := printStats(&got, map[string]float64{
		"sipwake_registers_total{status=stored}":                                              3,
		"sipwake_registers_total{status=refreshed}":                                           12,
		"sipwake_registers_total{status=refused}":                                             0,
		"sipwake_wakes_total{kind=call,outcome=pushing}":                                      2,
		"sipwake_wakes_total{kind=chat,outcome=pushing}":                                      1,
		"sipwake_bindings{app=com.example.phone,provider=apns}":                               7,
		"sipwake_bindings{app=web,provider=webpush}":                                          1,
		"sipwake_push_total{app=com.example.phone,kind=call,provider=apns,reason=sent}":       0,
		"sipwake_push_total{app=com.example.phone,kind=call,provider=apns,reason=accepted}":   5,
		"sipwake_push_total{app=com.example.phone,kind=chat,provider=apns,reason=accepted}":   4,
		"sipwake_push_total{app=com.example.phone,kind=call,provider=apns,reason=token_dead}": 1,
		"sipwake_wakes_open": 9,
	})
	const want = `REGISTERs               12 refreshed, 3 stored
calls and messages      3 pushing
ended                   none
bindings removed        none
apns com.example.phone  7 bindings; pushes: 9 accepted, 1 token_dead
webpush web             1 bindings; pushes: none
`
	if err != nil || got.String() != want {
		t.Errorf("%v:\n%s\nwant\n%s", err, got.String(), want)
	}
}
