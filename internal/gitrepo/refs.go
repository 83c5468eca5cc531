package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"meshc.dev/meshc/internal/diag"
)

// parseRef reads the file of a ref as git does: a hash that ends the text or is
// followed by white space, or "ref:" and a name.
func parseRef(b []byte) (hash, symbolic string, ok bool) {
	text := strings.TrimRight(string(b), " \t\r\n\v\f")
	if to, is := strings.CutPrefix(text, "ref:"); is {
		to = strings.TrimLeft(to, " \t\r\n\v\f")
		return "", to, to != ""
	}
	if len(text) > 40 && strings.ContainsRune(" \t\r\n\v\f", rune(text[40])) {
		text = text[:40]
	}
	hash = strings.ToLower(text)
	return hash, "", IsHash(hash)
}

// looseRef reads the file of one ref. Without one, ok is false and err nil.
func (f folders) looseRef(name string) (hash, symbolic string, ok bool, err error) {
	p := filepath.Join(f.common, filepath.FromSlash(name))
	st, err := os.Lstat(p)
	if absent(err) || (err == nil && st.IsDir()) {
		return "", "", false, nil
	}
	if err == nil && st.Mode()&fs.ModeSymlink != 0 {
		to, err := os.Readlink(p)
		if err == nil && strings.HasPrefix(to, "refs/") {
			return "", to, true, nil // the old form of a symbolic ref
		}
	}
	b, err := readFile(p, maxSmallFile)
	if absent(err) {
		return "", "", false, nil
	}
	if err != nil {
		return "", "", false, err
	}
	hash, symbolic, ok = parseRef(b)
	if !ok {
		return "", "", false, errBadRef
	}
	return hash, symbolic, true, nil
}

var errBadRef = errors.New("its file holds neither a hash nor the name of a ref")

// readRefs finds where the followed ref and the tags stand. Nothing else under
// refs/ is looked at, so that nothing else there can be in the way. A ref's own
// file comes before packed-refs and is read first, so that a ref that git packs
// meanwhile is not missed.
func (f folders) readRefs(ctx context.Context, s *Snapshot, o Options) error {
	hash, symbolic, ok, err := f.looseRef(s.ref)
	switch {
	case err != nil:
		return f.badRef(s.ref, err)
	case symbolic != "":
		return refuse(diag.CodeGitSource, "ref "+quote(s.ref), "it is a symbolic ref").fix("follow the branch that it names")
	case ok:
		s.head = hash
	}
	loose := map[string]bool{}
	if err := f.looseTags(ctx, s, o, loose); err != nil {
		return err
	}
	return f.packedRefs(ctx, o.Limits, func(name, hash string) error {
		if name == s.ref && !ok {
			if s.head != "" && s.head != hash {
				return refuse(diag.CodeGitObject, "packed-refs", "it names %s twice", quote(name)).fix("run git pack-refs --all in the repository")
			}
			s.head = hash
		}
		if loose[name] {
			return nil
		}
		return s.takeTag(name, hash, o)
	})
}

// looseTags takes the tags that have files of their own. What git does not take
// for a ref (locks, other names) is left out, and so is what holds no hash.
func (f folders) looseTags(ctx context.Context, s *Snapshot, o Options, seen map[string]bool) error {
	return f.looseRefs(ctx, o.Limits, "refs/tags/"+o.TagPrefix, func(name string) error {
		hash, _, ok, err := f.looseRef(name)
		if err != nil && unreadable(err) && !noFile(err) {
			return f.told(err)
		}
		seen[name] = ok || err != nil
		if !ok || hash == "" {
			return nil
		}
		return s.takeTag(name, hash, o)
	})
}

// looseRefs gives the names under a prefix that have files.
func (f folders) looseRefs(ctx context.Context, l Limits, prefix string, each func(name string) error) error {
	n := 0
	count := func() error {
		if n++; n > l.Refs {
			return tooManyRefs(l)
		}
		return nil
	}
	var walk func(dir string) error
	walk = func(dir string) error {
		err := listFolder(ctx, filepath.Join(f.common, filepath.FromSlash(dir)), count, func(e fs.DirEntry) error {
			name := path.Join(dir, e.Name())
			if !overlap(name, prefix) || CheckRef(name) != nil {
				return nil
			}
			if st, err := os.Stat(filepath.Join(f.common, filepath.FromSlash(name))); err == nil && st.IsDir() {
				return walk(name)
			}
			return each(name)
		})
		if absent(err) {
			return nil
		}
		return err
	}
	return f.told(walk(path.Dir(prefix + "x")))
}

// below is some ref whose name begins with a prefix, or "".
func (f folders) below(ctx context.Context, l Limits, prefix string) (found string, err error) {
	err = f.looseRefs(ctx, l, prefix, func(name string) error { found = name; return nil })
	if err != nil || found != "" {
		return found, err
	}
	err = f.packedRefs(ctx, l, func(name, _ string) error {
		if strings.HasPrefix(name, prefix) {
			found = name
		}
		return nil
	})
	return found, err
}

// badRef is a ref whose file holds none, or cannot be read.
func (f folders) badRef(name string, err error) error {
	if unreadable(err) {
		return f.told(err)
	}
	return refuse(diag.CodeGitMissing, "ref "+quote(name), "%v", err).fix("push it again; git fsck tells what else was damaged")
}

// noFile says that something else than a file has the name of a ref.
func noFile(err error) bool {
	var p *notFileError
	return errors.As(err, &p) || errors.Is(err, syscall.ELOOP)
}

// told makes a failure of the system one of the repository.
func (f folders) told(err error) error {
	var told *TransportError
	if err != nil && unreadable(err) && !errors.As(err, &told) {
		return cannotRead(f.common, err)
	}
	return err
}

// overlap says that a path may lie above or below a prefix.
func overlap(p, prefix string) bool {
	return strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p+"/")
}

// packedRefs reads the file of refs that have none of their own, line by line.
func (f folders) packedRefs(ctx context.Context, l Limits, each func(name, hash string) error) error {
	file, size, err := openFile(filepath.Join(f.common, "packed-refs"))
	if absent(err) {
		return nil
	}
	if err != nil {
		return f.told(err)
	}
	defer file.Close()
	if most := int64(l.Refs) * 1024; size > most {
		return refuse(diag.CodeGitLimit, "packed-refs", "%d bytes, the limit is %d", size, most).fix("delete refs that nobody needs")
	}
	r := bufio.NewReader(io.LimitReader(file, size))
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil
		}
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
			return f.told(err)
		}
		name, hash, ok := parsePacked(line)
		if err != nil || !ok { // also a last line without an end, and one of 4 KiB
			return refuse(diag.CodeGitObject, "packed-refs", "line %d is not a hash and a name", n).fix("run git pack-refs --all in the repository, or git fsck")
		}
		if name == "" {
			continue
		}
		if err := each(name, hash); err != nil {
			return err
		}
		if n%4096 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// parsePacked reads a line of packed-refs. The name is empty for what is no ref: the
// heading, and the hash that the tag before it peels to.
func parsePacked(line []byte) (name, hash string, ok bool) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	switch {
	case bytes.HasPrefix(line, []byte("#")):
		return "", "", true
	case bytes.HasPrefix(line, []byte("^")):
		return "", "", isHash(line[1:])
	case len(line) < 42 || line[40] != ' ' || !isHash(line[:40]):
		return "", "", false
	}
	text := string(line)
	return text[41:], text[:40], true
}

func tooManyRefs(l Limits) error {
	return refuse(diag.CodeGitLimit, "repository", "more than %d refs", l.Refs).fix("delete refs that nobody needs")
}

// takeTag keeps a tag under the prefix.
func (s *Snapshot) takeTag(name, hash string, o Options) error {
	tag, ok := strings.CutPrefix(name, "refs/tags/")
	if !ok || !strings.HasPrefix(tag, o.TagPrefix) || CheckRef(name) != nil {
		return nil // nothing that meshc writes has such a name
	}
	if s.tags.put(tag, hash); len(s.tags.names) > o.Limits.Tags {
		return refuse(diag.CodeGitLimit, "repository", "more than %d tags under %s", o.Limits.Tags, o.TagPrefix).
			fix("delete approval tags of commits long served")
	}
	return nil
}

// ref finds one ref by its full name.
func (f folders) ref(ctx context.Context, l Limits, name string) (hash, symbolic string, err error) {
	hash, symbolic, ok, err := f.looseRef(name)
	if err != nil {
		return "", "", f.badRef(name, err)
	}
	if ok {
		return hash, symbolic, nil
	}
	err = f.packedRefs(ctx, l, func(n, h string) error {
		if n == name {
			hash = h
		}
		return nil
	})
	return hash, "", err
}
