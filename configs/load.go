package configs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// Load reads and checks a job file. Relative local paths in it, secrets'
// included, mean the folder that the file is in.
func Load(path string) (*Job, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read job file: %w", err)
	}
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("read job file: %w", err)
	}
	return Frozen{File: path, Dir: dir, Source: data}.Thaw()
}

// Parse reads and checks a job file's bytes. Relative paths stay as they are.
func Parse(data []byte) (*Job, error) {
	return Frozen{Source: data}.Thaw()
}

// Frozen is a job file as it was read: what a run keeps (sealed) so that its
// resume, purge and restore read the same job.
type Frozen struct {
	File   string `json:"file"`
	Dir    string `json:"dir"`
	Source []byte `json:"source"`
}

// Freeze returns what Thaw turns back into this job.
func (j *Job) Freeze() Frozen { return Frozen{File: j.file, Dir: j.dir, Source: j.source} }

// File is the name of the file that the job was read from, "" for none.
func (j *Job) File() string { return j.file }

// Thaw reads and checks the job.
func (f Frozen) Thaw() (*Job, error) {
	d := &decoder{file: f.File, pos: map[string]position{}}
	j := Default()
	root := d.parseTree(f.Source)
	if root == nil {
		return nil, d.errs.sorted()
	}
	j.Version = 0 // has to be stated
	d.value("", root, reflect.ValueOf(j).Elem())
	if len(d.errs) > 0 {
		return nil, d.errs.sorted()
	}
	j.complete()
	j.source, j.file, j.pos = f.Source, f.File, d.pos
	if f.Dir != "" {
		j.dir = f.Dir
		j.resolvePaths(f.Dir)
	}
	if err := j.Validate(); err != nil {
		return nil, err
	}
	return j, nil
}

var hasScheme = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9+.-]*:`)

// absolute resolves a relative local path against dir; URLs stay.
func absolute(dir, path string) string {
	if path == "" || filepath.IsAbs(path) || hasScheme.MatchString(path) {
		return path
	}
	joined := filepath.Join(dir, path)
	if strings.HasSuffix(path, "/") {
		joined += "/" // a prefix stays a prefix
	}
	return joined
}

// resolvePaths makes relative local paths absolute. Catalog properties are the
// catalog's own and stay, apart from ${file:…} references.
func (j *Job) resolvePaths(dir string) {
	ref := func(s *string) {
		if path, ok := strings.CutPrefix(*s, "file:"); ok && !strings.HasPrefix(path, "//") {
			*s = "file:" + absolute(dir, path)
		}
	}
	local := func(s *string) { *s = absolute(dir, *s) }
	local(&j.State)
	ref(&j.Signing.Executor)
	ref(&j.Signing.Verifier)
	local(&j.Signing.Trust)
	j.resolveEvidence(local, ref)
	if t := j.Engine.TLS; t != nil {
		local(&t.Cert)
		local(&t.Key)
		local(&t.CA)
	}
	for _, name := range slices.Sorted(maps.Keys(j.Keysets)) {
		k := j.Keysets[name]
		for i := range k.Source {
			local(&k.Source[i])
		}
		for i := range k.Holds {
			local(&k.Holds[i])
		}
	}
	for i := range j.Targets {
		local(&j.Targets[i].Prefix)
	}
	for _, props := range append(slices.Collect(maps.Values(j.Catalogs)), j.Storage) {
		for name, s := range props {
			props[name] = s.resolvePaths(dir)
		}
	}
}

// ParseProps reads catalog properties from YAML. A literal secret is allowed
// here, since it is not in a job file; it is still never shown.
func ParseProps(data []byte) (Props, error) {
	d := &decoder{pos: map[string]position{}}
	root := d.parseTree(data)
	if root == nil {
		return nil, d.errs.sorted()
	}
	p := Props{}
	p.read(d, "", root, true)
	return p, d.errs.sorted()
}
