package wake

// LoadLevel is how busy this instance is: 0 low, 1 moderate, 2 high, 3 very
// high, 4 extreme. Clients and balancers choose by it.
type LoadLevel int

// loadSteps are the shares of the fullest push queue at which a level begins.
var loadSteps = [...]float64{.25, .5, .75, .95}

// overload is the level at which pushes other than calls are refused.
const overload LoadLevel = 3

// Load returns the level and the share of the fullest push queue that is in use.
func (s *Service) Load() (LoadLevel, float64) {
	share := s.pusher.Load()
	level := LoadLevel(0)
	for _, step := range loadSteps {
		if share >= step {
			level++
		}
	}
	return level, share
}

// Traces returns what this instance saw of the wakes of an AOR or of a Call-ID.
func (s *Service) Traces(aor, callID string) ([]Timeline, error) {
	if aor == "" && callID == "" {
		return nil, &ParamError{"aor", "is missing; give aor or call_id"}
	}
	if aor != "" {
		var err error
		if aor, err = cleanAOR(aor); err != nil {
			return nil, err
		}
	}
	return s.traces.find(aor, callID), nil
}
