package registrycheck

import "sync"

// once answers each question of a run one time. Who asks while the answer is on its way
// waits for it; that ends with the run's context, which the asking goes by.
type once[K comparable, V any] struct {
	mu      sync.Mutex // guards answers
	answers map[K]func() (V, error)
}

func (o *once[K, V]) do(key K, ask func() (V, error)) (V, error) {
	o.mu.Lock()
	answer, ok := o.answers[key]
	if !ok {
		answer = sync.OnceValues(ask)
		if o.answers == nil {
			o.answers = map[K]func() (V, error){}
		}
		o.answers[key] = answer
	}
	o.mu.Unlock()
	return answer()
}
