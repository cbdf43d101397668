package demo

import (
	"bytes"
	"embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed job.yaml.tmpl
var files embed.FS

// inputs writes the key file, the hold file and the job file.
func (l *Lakehouse) inputs(p *people, grace string) error {
	var keys, holds bytes.Buffer
	keys.WriteString("user_id,email,ticket,received\n")
	asked := append(append(append([]int64(nil), p.erased...), p.held...), p.unknown...)
	for i, id := range asked {
		address := email(id)
		if i%3 == 0 {
			address = " " + strings.ToUpper(address) // as people write them; the job declares how to read them
		}
		fmt.Fprintf(&keys, "%d,%s,DSAR-%04d,%s\n", id, address, 1001+i/2, received)
	}
	holds.WriteString("user_id,email\n")
	for _, id := range p.held {
		fmt.Fprintf(&holds, "%d,%s\n", id, email(id))
	}
	l.Keys = len(asked)
	t, err := template.ParseFS(files, "job.yaml.tmpl")
	if err != nil {
		return fmt.Errorf("job file: %w", err)
	}
	var job bytes.Buffer
	if err := t.Execute(&job, map[string]string{"URI": l.Catalog["uri"], "Warehouse": l.Catalog["warehouse"], "Grace": grace}); err != nil {
		return fmt.Errorf("job file: %w", err)
	}
	for name, body := range map[string][]byte{"keys.csv": keys.Bytes(), "holds.csv": holds.Bytes(), "job.yaml": job.Bytes()} {
		if err := os.WriteFile(filepath.Join(l.Dir, name), body, 0o644); err != nil {
			return fmt.Errorf("demo folder: %w", err)
		}
	}
	return nil
}

// received is the day on which the demo's requests came in. The job has no
// deadline, so that a demo works on any day.
const received = "2026-11-01"
