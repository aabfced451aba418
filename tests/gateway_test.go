package tests

import "testing"

// What any proxy does, with the PBX of callers behind it.

func TestGatewayCalls(t *testing.T) {
	t.Parallel()
	callTable().run(t, gateway())
}

func TestGatewayRegistrations(t *testing.T) {
	t.Parallel()
	registrationTable().run(t, gateway())
}

func TestGatewayAsksFirst(t *testing.T) {
	t.Parallel()
	askFirstTable().run(t, gateway())
}

func TestGatewayHoldTime(t *testing.T) {
	t.Parallel()
	holdTimeTable().run(t, gateway())
}

func TestGatewayMessages(t *testing.T) {
	t.Parallel()
	messageTable().run(t, gateway())
}

func TestGatewayHostile(t *testing.T) { hostile(t, gateway()) }
func TestGatewayRaces(t *testing.T)   { races(t, gateway()) }
func TestGatewaySurvivesRestart(t *testing.T) {
	t.Parallel()
	survivesRestart(t, gateway())
}
