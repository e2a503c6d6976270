package web

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
)

// firstBuffer is the size of a body's buffer before the first byte has come, whatever its Content-Length claims. Most
// events are smaller; the buffer of a larger body grows as it arrives.
const firstBuffer = 4 << 10

// ReadBody reads the body of r, of at most limit bytes. It must be of the given media type ("application/json", without
// parameters), and if it names a charset, that must be UTF-8. Otherwise ReadBody answers the request and ok is false:
//
//	415  Content-Type is another, or the body is compressed
//	413  longer than limit; the connection closes, so that the rest need not be read
//	408  not there within ReadTimeout, or too slow while the server is full
//	503  all bodies together are more than the server takes (Options.MaxBodyBytes)
//	400  it ends early, or is malformed as HTTP
//
// It blocks until the body is there, its connection ends or ReadTimeout is over. It holds at most about twice what has
// arrived in memory.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64, media string) (body []byte, ok bool) {
	body, p := readBody(r, limit, media)
	if p == nil {
		return body, true
	}
	switch p.Status {
	case http.StatusRequestEntityTooLarge, http.StatusRequestTimeout, http.StatusServiceUnavailable:
		w.Header().Set("Connection", "close")
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	p.Write(w, r)
	return nil, false
}

// ReadJSONObject reads the body of r as ReadBody does. It must be application/json and exactly one JSON object
// (CheckObject), and is returned as it came. Otherwise the answer is a 400; its detail says what is wrong and where.
func ReadJSONObject(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, ok bool) {
	body, ok = ReadBody(w, r, limit, "application/json")
	if !ok {
		return nil, false
	}
	err := errEmptyObject
	if len(body) > 0 {
		err = CheckObject(body)
	}
	if err != nil {
		WriteProblem(w, r, http.StatusBadRequest, err.Error())
		return nil, false
	}
	return body, true
}

var errEmptyObject = errors.New("the body is empty; send one JSON object")

func readBody(r *http.Request, limit int64, media string) ([]byte, *Problem) {
	if p := checkType(r.Header, media); p != nil {
		return nil, p
	}
	if r.ContentLength > limit { // before the first byte, and before "100 Continue"
		return nil, tooLarge(limit)
	}
	room := min(max(r.ContentLength, 0), firstBuffer)
	buf := bytes.NewBuffer(make([]byte, 0, room+bytes.MinRead))
	_, err := buf.ReadFrom(io.LimitReader(r.Body, limit+1))
	switch {
	case errors.Is(err, errGaveWay):
		return nil, &Problem{Status: http.StatusRequestTimeout, Detail: "the body came too slowly for a server that is full"}
	case errors.Is(err, errOverloaded):
		return nil, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many large bodies at once"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, &Problem{Status: http.StatusRequestTimeout, Detail: "the body did not arrive in time"}
	case err != nil:
		return nil, &Problem{Status: http.StatusBadRequest, Detail: "the body could not be read: it ends early or its chunks are malformed"}
	case int64(buf.Len()) > limit:
		return nil, tooLarge(limit)
	}
	return buf.Bytes(), nil
}

func tooLarge(limit int64) *Problem {
	return &Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the body is larger than %d bytes", limit)}
}

func checkType(h http.Header, want string) *Problem {
	media, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := params["charset"]
	if err != nil || media != want || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return &Problem{Status: http.StatusUnsupportedMediaType, Detail: "Content-Type must be " + want + " (always in UTF-8)"}
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &Problem{Status: http.StatusUnsupportedMediaType, Detail: "send the body without Content-Encoding"}
	}
	return nil
}
