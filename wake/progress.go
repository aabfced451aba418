package wake

import (
	"context"
	"time"
)

// ProgressParams are the parameters of wake.progress: the first provisional
// answer of a contact that was rung at once.
type ProgressParams struct {
	Node    string
	AOR     string
	CallID  string
	Call    string
	Contact string // as it was named in Live
	Code    int
}

// Progress notes that a device that was being rung is awake: its push is not
// sent. It tells whether the push was still waiting; of a wake that another
// instance owns it does not know.
func (s *Service) Progress(_ context.Context, p ProgressParams) (withheld bool, err error) {
	if _, err := s.node(p.Node); err != nil {
		return false, err
	}
	aor, err := cleanAOR(p.AOR)
	if err != nil {
		return false, err
	}
	if err := checkID("call", p.Call); err != nil {
		return false, err
	}
	if p.Contact == "" {
		return false, &ParamError{"contact", "is missing"}
	}
	w := Wake{Node: p.Node, Call: p.Call, AOR: aor}
	cl := s.calls.get(w)
	if cl == nil {
		s.announce(w, NewsRings, p.Contact)
		return false, nil
	}
	return s.rings(cl, p.Contact), nil
}

// rings drops the withheld push of the device that was named in Live. It tells
// whether there was one.
func (s *Service) rings(cl *call, contact string) bool {
	key := cl.find(contact)
	if key == "" || !cl.released(key) {
		return false
	}
	s.traces.add(cl.wake, time.Now(), eventAnswering, key, "")
	s.follow(cl, cl.set(key, back))
	return true
}

// find returns the device that was named in Live, "" if there is none.
func (cl *call) find(name string) string {
	cl.mu.Lock()
	defer cl.mu.Unlock()
	for key, d := range cl.devices {
		if rung([]string{name}, d.binding) {
			return key
		}
	}
	return ""
}
