package rehearsal

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// greeting is what a WebSocket is asked to echo.
const greeting = "still the same?"

// frame is greeting as a client says it: one frame of text, masked with zeros (RFC 6455 section 5.2).
func frame() []byte {
	const text, masked = 0x81, 0x80
	return append([]byte{text, masked | byte(len(greeting)), 0, 0, 0, 0}, greeting...)
}

// readFrame reads a short frame as a server says it.
func readFrame(r *bufio.Reader) (string, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", fmt.Errorf("reading a frame's head: %w", err)
	}
	body := make([]byte, head[1])
	if _, err := io.ReadFull(r, body); err != nil {
		return "", fmt.Errorf("reading a frame: %w", err)
	}
	return string(body), nil
}

// unframed is the text of a short frame, "" if that is not whole.
func unframed(b []byte) string {
	text, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return ""
	}
	return text
}
