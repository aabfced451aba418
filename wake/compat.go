package wake

const (
	Bind      = ActionBind
	Unbind    = ActionUnbind
	Seen      = ActionSeen
	Stored    = StatusStored
	Refreshed = StatusRefreshed
	Removed   = StatusRemoved
	Queried   = StatusQueried
	None      = StatusNone
	Refused   = StatusRefused
	Stale     = StatusStale
	Added     = SignalAdded
	Dup       = SignalDuplicate
	Gone      = SignalGone
	NoContact = SignalNoContact
	Busy      = SignalBusy
	OK        = SignalOK
)
