package edgeagent

// rest tells that there is nothing under way any more: once after the start, and whenever
// the last attempt has ended.
func (a *Agent) rest() {
	was := a.resting
	if a.resting = a.running() == 0; a.resting && !was && a.options.Rest != nil {
		a.options.Rest()
	}
}
