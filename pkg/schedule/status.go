package schedule

import (
	"maps"
	"time"
)

// State is what a job does.
type State string

// The states; the drawing in the package comment shows what leads from one to the other.
const (
	Waiting State = "waiting" // for its time
	Delayed State = "delayed" // its time has come, and its jitter is not over
	Running State = "running"
	Hung    State = "hung" // did not come back after its timeout
)

// Outcome is what became of a run.
type Outcome string

// The outcomes.
const (
	Done        Outcome = "done"
	Failed      Outcome = "failed"      // an error or a panic
	TimedOut    Outcome = "timeout"     // its time was over, and it came back with an error, or hangs
	Interrupted Outcome = "interrupted" // by the shutdown
	Skipped     Outcome = "skipped"     // the run before had not ended
)

// Status is a job's state at a moment. It holds no secret: Error has no URL's user, path or query, and nothing that
// looks like a credential.
type Status struct {
	Name        string             `json:"name"`
	Spec        string             `json:"spec"`
	State       State              `json:"state"`
	Next        time.Time          `json:"next"`                  // when its time comes next
	Began       time.Time          `json:"began,omitzero"`        // its present run, or else its last
	Ended       time.Time          `json:"ended,omitzero"`        // its last run, as far as its outcome is known
	Outcome     Outcome            `json:"outcome,omitempty"`     // of that one
	Error       string             `json:"error,omitempty"`       // why it did not do well
	LastSuccess time.Time          `json:"last_success,omitzero"` // the end of the last run that was done
	Runs        map[Outcome]uint64 `json:"runs"`                  // since the process started
	Pings       *Pings             `json:"pings,omitempty"`       // nil if it pings nobody
}

// Pings counts what became of a job's pings.
type Pings struct {
	Sent    uint64 `json:"sent"`
	Failed  uint64 `json:"failed"`  // given up after all tries
	Dropped uint64 `json:"dropped"` // too many waited, or the process ended
}

// List returns the status of all jobs, in the order in which they were added.
func (s *Scheduler) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, len(s.jobs))
	for i, j := range s.jobs {
		list[i] = j.status()
	}
	return list
}

// status is called under the lock.
func (j *job) status() Status {
	return Status{Name: j.Name, Spec: j.Spec, State: j.state, Next: j.next, Began: j.began, Ended: j.ended, Outcome: j.outcome,
		Error: j.failure, LastSuccess: j.success, Runs: maps.Clone(j.runs), Pings: j.pings.stats()}
}
