package scoring

import "math"

// best is the score of what is ready at once.
const best = 100

// Faded is the ready time in milliseconds that scores as much as millis does on a node of which load, 0 to 1, is
// requested with the pod: the fuller a node, the less it counts that images are there. Without it pods would be packed on
// the few nodes that have the image until nothing fits any more.
func (r *Rules) Faded(millis int64, load float64) int64 {
	if load <= r.FadeFrom || r.FadeFrom >= 1 {
		return millis
	}
	left := max(0, 1-(load-r.FadeFrom)/(1-r.FadeFrom))
	if left == 0 {
		return r.Max
	}
	// The score is linear in the logarithm: what is left of it lies between that of millis and that of Max.
	return int64(float64(r.Max) * math.Pow(float64(max(millis, r.Equal))/float64(r.Max), left))
}

// Score gives 100 for Equal milliseconds and less, 0 for Max and more, and falls with the logarithm between: twice as
// long costs the same anywhere.
func (r *Rules) Score(millis int64) int64 {
	switch {
	case millis <= r.Equal:
		return best
	case millis >= r.Max:
		return 0
	}
	share := math.Log(float64(millis)/float64(r.Equal)) / math.Log(float64(r.Max)/float64(r.Equal))
	return max(0, min(best, int64(math.Round(best*(1-share)))))
}

// Scorer turns the ready times of all candidates of one pod into scores. What differs from the shortest by less than
// Equal scores the same. The zero value is not usable; make it with Rules.Scorer.
type Scorer struct {
	rules           *Rules
	shortest        int64
	last, lastScore int64
}

// Scorer makes one for candidates of which the soonest is ready in shortest milliseconds.
func (r *Rules) Scorer(shortest int64) Scorer {
	return Scorer{rules: r, shortest: shortest, last: shortest, lastScore: r.Score(shortest)}
}

// Score is the score of one candidate. Candidates often share a value: the last one is remembered.
func (s *Scorer) Score(millis int64) int64 {
	if millis-s.shortest < s.rules.Equal {
		millis = s.shortest
	}
	if millis != s.last {
		s.last, s.lastScore = millis, s.rules.Score(millis)
	}
	return s.lastScore
}
