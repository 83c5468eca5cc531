package evidence

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"meshc.dev/meshc/internal/diag"
	"meshc.dev/meshc/internal/durable"
)

// On disk, a log is a text file to which lines are appended:
//
//	<CRC-32 (IEEE) of the JSON, 8 hexadecimal characters> <receipt as JSON>
//
// A line whose sum is wrong is left out and told; the others count. The file is
// written anew, by a rename, when most of it is outdated.

// Log is a Set that is kept in a file and shared by goroutines. Make one with Open.
type Log struct {
	path string
	log  *slog.Logger

	mu  sync.Mutex
	set Set
	// seq counts changes, so that a peer can be told what is new; at is the change
	// that made each receipt what it is.
	seq  uint64
	at   map[place]uint64
	file *os.File
	// lines are in the file, some of them outdated; dirty says that it is to be synced.
	lines int
	dirty bool
	// failed is why writing failed, as last told.
	failed  string
	closed  bool
	damaged *diag.Diagnostic
	// changed is called, without the lock, with the classes that a merge changed.
	changed func(classes []string)
}

type place struct {
	class string
	who   Instance
	key   key
}

// FileName is the name of a log in a state folder.
const FileName = "evidence"

const (
	// maxLine is the longest line that is read.
	maxLine = 1 << 20
	// spareLines may be outdated before the file is written anew.
	spareLines = 4_096
	// syncEvery is how often what was appended is forced to the disk. It outlives the
	// process as soon as it is written; this is for machines that lose power.
	syncEvery = 200 * time.Millisecond
)

// Open reads the log in the folder, which must exist. A damaged file is no error:
// what can be read counts, the file is kept beside the new one, and Problems tells
// it. Nor is a disk that takes nothing: Problems tells that until it does. With dir ""
// the log lives in memory only.
func Open(dir string, log *slog.Logger) (*Log, error) {
	l := &Log{log: log, at: map[place]uint64{}}
	if dir == "" {
		return l, nil
	}
	l.path = filepath.Join(dir, FileName)
	bad, err := l.read()
	if err != nil {
		return nil, fmt.Errorf("opening the evidence: %w", err)
	}
	if bad > 0 {
		l.keepDamaged(bad)
	}
	l.told(l.rewrite())
	return l, nil
}

// read takes in what the file holds, and says how many lines are damaged. The last
// line may be cut short by a crash, which is no damage: nobody acted on it.
func (l *Log) read() (bad int, err error) {
	raw, err := os.ReadFile(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	whole := bytes.HasSuffix(raw, []byte("\n"))
	sc := bufio.NewScanner(bytes.NewReader(raw))
	sc.Buffer(make([]byte, 64<<10), maxLine)
	last := false
	for sc.Scan() {
		r, ok := parse(sc.Bytes())
		if last = !ok; last {
			bad++
			continue
		}
		l.put(r)
	}
	if sc.Err() != nil { // a line that no receipt can have
		bad++
		last = false
	}
	if !whole && last {
		bad--
	}
	return bad, nil
}

func parse(line []byte) (Receipt, bool) {
	sum, text, ok := bytes.Cut(line, []byte(" "))
	var r Receipt
	if !ok || string(sum) != checksum(text) || json.Unmarshal(text, &r) != nil || !r.valid() {
		return Receipt{}, false
	}
	return r, true
}

func checksum(text []byte) string { return fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) }

func line(r Receipt) string {
	text := r.text()
	return checksum([]byte(text)) + " " + text + "\n"
}

func (l *Log) keepDamaged(bad int) {
	aside := l.path + ".damaged"
	fix := fmt.Sprintf("check the disk; the damaged file is kept as %q", aside)
	if err := os.Rename(l.path, aside); err != nil {
		fix = "check the disk"
	}
	d := diag.New(diag.CodeEvidenceDamaged, diag.Pos{File: l.path},
		"%d entries of what proxies confirmed and refused cannot be read; the other %d count", bad, l.set.Len()).WithFix("%s", fix)
	l.damaged = &d
	l.log.Warn("evidence damaged", slog.String("code", string(d.Code)), slog.String("reason", d.Text), slog.String("fix", d.Fix))
}

// Problems says what is wrong with the file.
func (l *Log) Problems() []diag.Diagnostic {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []diag.Diagnostic
	if l.damaged != nil {
		out = append(out, *l.damaged)
	}
	if l.failed != "" {
		out = append(out, diag.New(diag.CodeEvidenceNotStored, diag.Pos{File: l.path}, "what proxies confirm and refuse is not stored: %s", l.failed).
			WithFix("make room in the state folder, or let the server write there; until then a restart forgets"))
	}
	return out
}

// put adds a receipt to the set, not to the file.
func (l *Log) put(r Receipt) bool {
	if !l.set.Add(r) {
		return false
	}
	l.seq++
	l.at[place{r.Class, r.Instance, r.key()}] = l.seq
	return true
}

// Record notes a new fact, which follows what is known of the same content. It is
// in the file when Record returns. The result is the receipt as it counts; false
// if it says nothing new.
func (l *Log) Record(r Receipt) (Receipt, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rec := l.set.Class(r.Class)[r.Instance]
	if !r.Failed() {
		// A confirmation again says something only if it lasts longer.
		if old, ok := rec[r.key()]; ok && !r.Until.After(old.Until) {
			if _, failed := rec.Failure(r.Content); !failed {
				return old, false
			}
		}
	}
	r = l.set.following(r)
	if !l.put(r) {
		return r, false
	}
	l.append(r)
	return r, true
}

// Merge takes in receipts of another server, and tells Watch of the classes that changed.
func (l *Log) Merge(rs []Receipt) {
	l.mu.Lock()
	classes := map[string]bool{}
	for _, r := range rs {
		if l.put(r) {
			l.append(r)
			classes[r.Class] = true
		}
	}
	changed := l.changed
	l.mu.Unlock()
	if changed != nil && len(classes) > 0 {
		changed(slices.Sorted(maps.Keys(classes)))
	}
}

// Watch sets who is told of classes that a merge changed. Call it before use.
func (l *Log) Watch(changed func(classes []string)) { l.changed = changed }

// Read calls f with what is known of a class. f must not keep it.
func (l *Log) Read(class string, f func(Class)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(l.set.Class(class))
}

// Since returns up to limit receipts that changed after the change since, oldest
// first, and the change up to which they are complete.
func (l *Log) Since(since uint64, limit int) (rs []Receipt, upTo uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since >= l.seq {
		return nil, l.seq
	}
	type change struct {
		seq uint64
		r   Receipt
	}
	var all []change
	for r := range l.set.All() {
		if n := l.at[place{r.Class, r.Instance, r.key()}]; n > since {
			all = append(all, change{n, r})
		}
	}
	slices.SortFunc(all, func(a, b change) int { return int(a.seq) - int(b.seq) })
	upTo = l.seq
	if len(all) > limit {
		all = all[:limit]
		upTo = all[limit-1].seq
	}
	for _, c := range all {
		rs = append(rs, c.r)
	}
	return rs, upTo
}

// append writes a receipt behind the others, or all anew. The caller holds mu.
func (l *Log) append(r Receipt) {
	if l.path == "" || l.closed {
		return
	}
	if l.lines > 2*len(l.at)+spareLines || l.failed != "" {
		l.told(l.rewrite())
		return
	}
	l.lines++
	l.dirty = true
	_, err := l.file.WriteString(line(r))
	l.told(err)
}

// told logs why writing fails, once, and that it works again.
func (l *Log) told(err error) {
	was := l.failed
	if l.failed = ""; err != nil {
		l.failed = err.Error()
	}
	switch l.failed {
	case was:
	case "":
		l.log.Info("evidence is stored again")
	default:
		l.log.Error("evidence not stored", slog.String("code", string(diag.CodeEvidenceNotStored)), slog.Any("error", err))
	}
}

// rewrite replaces the file by one with what counts. The caller holds mu.
func (l *Log) rewrite() error {
	var text bytes.Buffer
	live := map[place]uint64{}
	for r := range l.set.All() {
		p := place{r.Class, r.Instance, r.key()}
		live[p] = l.at[p]
		text.WriteString(line(r))
	}
	if err := durable.WriteFile(l.path, text.Bytes(), 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if l.file != nil {
		_ = l.file.Close() // its content is in the new one
	}
	l.file, l.lines, l.at, l.dirty = f, len(live), live, false
	return nil
}

// Run forces what was written to the disk, now and then, until done is closed.
func (l *Log) Run(done <-chan struct{}) {
	t := time.NewTicker(syncEvery)
	defer t.Stop()
	for {
		select {
		case <-done:
			l.sync()
			return
		case <-t.C:
			l.sync()
		}
	}
}

func (l *Log) sync() {
	l.mu.Lock()
	f, dirty := l.file, l.dirty
	l.dirty = false
	l.mu.Unlock()
	if !dirty {
		return
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // closed: written anew meanwhile
		l.mu.Lock()
		l.told(err)
		l.mu.Unlock()
	}
}

// Close syncs and closes the file.
func (l *Log) Close() {
	l.sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.file != nil {
		_ = l.file.Close() // it was synced
		l.file = nil
	}
}
