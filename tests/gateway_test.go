package tests

import "testing"

func TestGatewayCalls(t *testing.T) { callTable().run(t, gateway()) }
