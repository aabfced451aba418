package tests

import "testing"

// What any proxy does, with the PBX of callers behind it.

func TestGatewayCalls(t *testing.T)           { callTable().run(t, gateway()) }
func TestGatewayRegistrations(t *testing.T)   { registrationTable().run(t, gateway()) }
func TestGatewayAsksFirst(t *testing.T)       { askFirstTable().run(t, gateway()) }
func TestGatewayHoldTime(t *testing.T)        { holdTimeTable().run(t, gateway()) }
func TestGatewayMessages(t *testing.T)        { messageTable().run(t, gateway()) }
func TestGatewayHostile(t *testing.T)         { hostile(t, gateway()) }
func TestGatewayRaces(t *testing.T)           { races(t, gateway()) }
func TestGatewaySurvivesRestart(t *testing.T) { survivesRestart(t, gateway()) }
