package zmq

import "encoding/binary"

// A batch is messages in a row, each behind its length as a uvarint. Both kinds of endpoint gather messages so; on
// inproc the batch itself is the frame, on the others each of its messages becomes one.

// appendMessage adds msg to the batch.
func appendMessage(batch, msg []byte) []byte {
	return append(binary.AppendUvarint(batch, uint64(len(msg))), msg...)
}

// nextMessage cuts the first message off a batch. The message can't grow into the next one. ok is false when the
// batch is not one.
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
