package zmq

import "encoding/binary"

// A batch is a sequence of messages, each after its length as a uvarint. All endpoints gather messages in batches. On
// inproc the batch is one frame; on the others each message is one.

// appendMessage adds msg to the batch.
func appendMessage(batch, msg []byte) []byte {
	return append(binary.AppendUvarint(batch, uint64(len(msg))), msg...)
}

// nextMessage returns the first message of a batch and the rest. Its capacity ends where the message does, so that append
// can't overwrite the next one. ok is false if the batch is malformed.
func nextMessage(batch []byte) (msg, rest []byte, ok bool) {
	size, n := binary.Uvarint(batch)
	if n <= 0 || size > uint64(len(batch)-n) {
		return nil, nil, false
	}
	end := n + int(size)
	return batch[n:end:end], batch[end:], true
}

// countMessages returns how many messages a batch holds.
func countMessages(batch []byte) (n int) {
	for len(batch) > 0 {
		_, rest, ok := nextMessage(batch)
		if !ok {
			break
		}
		batch = rest
		n++
	}
	return n
}
