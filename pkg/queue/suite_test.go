package queue_test

import "testing"

// suite is what must be true wherever the queue lives.
var suite = []struct {
	name string
	run  func(*testing.T, *place)
}{
	{"events come in the order of arrival, with their envelope", testOrder},
	{"an id that stands twice in a call is accepted once", testTwiceInOneCall},
	{"an id is accepted once while it waits, when it was processed, when it is dead, and after a restart", testKnown},
	{"an id that many publish at once is accepted once", testConcurrentIDs},
	{"a batch with a bad envelope is refused as a whole", testBadEnvelope},
	{"an event without an id gets one", testNewIDs},
	{"a batch with an id that was purged is stored whole", testPurgedIDInABatch},
	{"a handler that never comes back counts as a death", testStuck},
	{"a batch that doesn't fit is refused as a whole", testBatchTooLarge},
	{"what is full refuses, and takes again when there is room", testFull},
	{"an event of the largest size is taken", testLargest},
	{"a retry comes after its pause and counts", testRetry},
	{"attempts count over restarts, and the last makes a dead letter", testAttempts},
	{"a receipt settles once", testReceipt},
	{"an event in whose handling the process died is delivered alone", testSuspect},
	{"an event that kills the process is dead in the end, those beside it live", testPoison},
	{"what was delivered and never begun is no suspect", testNotBegun},
	{"what was processed is not delivered again when the ack got lost", testLostAck},
	{"dead letters are listed in pages, replayed and purged", testDeadLetters},
	{"all dead letters are replayed", testReplayAll},
	{"a replay of what is accepted again is no second event", testReplayTwice},
	{"purge deletes what waits", testPurge},
	{"purge deletes what was fetched and not handed out", testPurgeOfWhatWasFetched},
	{"what fails during a purge is dead", testPurgeOfWhatFails},
	{"purge forgets attempts", testPurgeForgetsAttempts},
	{"what is no event is buried and holds up nobody", testUndecodable},
	{"close refuses what is new and gives back what is in flight", testClose},
	{"a handler longer than the ack wait keeps its event", testProgress},
	{"what a process had that is gone comes after the ack wait", testGone},
	{"stats count", testStats},
	{"no more is in flight than is allowed", testInFlight},
}

func TestEmbedded(t *testing.T) {
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, embedded(t))
		})
	}
}

func TestCluster(t *testing.T) {
	nodes := startNodes(t, 3)
	free := make(chan int, accounts)
	for i := range accounts {
		free <- i
	}
	for _, c := range suite {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			account := <-free
			t.Cleanup(func() { free <- account })
			c.run(t, cluster(t, nodes, account))
		})
	}
}
