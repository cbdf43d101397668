package configs

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// redacted is what every printed form of a secret says.
const redacted = "[secret]"

// ErrSecret: a secret's file or variable could not be read. The error names the
// reference, never what was read.
var ErrSecret = errors.New("secret is not available")

// Secret is a property that may be, or hold, a secret. Its text can contain
// references ${file:/path} and ${env:NAME}, which Reveal resolves.
type Secret struct {
	text      string
	sensitive bool
}

// Plain returns a property that is no secret.
func Plain(text string) Secret { return Secret{text: text, sensitive: reference.MatchString(text)} }

// Sensitive says whether the value is hidden when printed.
func (s Secret) Sensitive() bool { return s.sensitive }

// String returns the value, or a placeholder when it is sensitive.
func (s Secret) String() string {
	if s.sensitive {
		return redacted
	}
	return s.text
}

// GoString keeps %#v from printing the value.
func (s Secret) GoString() string { return fmt.Sprintf("configs.Secret(%q)", s.String()) }

// Format keeps every other verb from reaching the fields.
func (s Secret) Format(f fmt.State, verb rune) {
	if verb == 'q' || f.Flag('#') {
		fmt.Fprintf(f, "%q", s.String())
		return
	}
	fmt.Fprint(f, s.String())
}

// MarshalText is used by JSON and YAML encoders alike.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue keeps slog from printing the value.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

var reference = regexp.MustCompile(`\$\{([^{}]*)\}`)

// Reveal resolves the references in the value. A file's trailing line break is dropped.
func (s Secret) Reveal() (string, error) {
	var failure error
	out := reference.ReplaceAllStringFunc(s.text, func(ref string) string {
		kind, name, _ := strings.Cut(ref[2:len(ref)-1], ":")
		switch kind {
		case "env":
			v, ok := os.LookupEnv(name)
			if !ok {
				failure = errors.Join(failure, fmt.Errorf("environment variable %s: %w", name, ErrSecret))
			}
			return v
		case "file":
			b, err := os.ReadFile(name)
			if err != nil {
				failure = errors.Join(failure, fmt.Errorf("%w: %w", ErrSecret, err))
			}
			return strings.TrimRight(string(b), "\r\n")
		}
		failure = errors.Join(failure, fmt.Errorf("reference %s: %w", ref, ErrSecret))
		return ""
	})
	if failure != nil {
		return "", failure
	}
	return out, nil
}

// check says what is wrong with the references of a value, without the value.
func (s Secret) check() error {
	rest := reference.ReplaceAllStringFunc(s.text, func(ref string) string {
		kind, name, ok := strings.Cut(ref[2:len(ref)-1], ":")
		if !ok || name == "" || kind != "env" && kind != "file" {
			return "${"
		}
		return ""
	})
	if strings.Contains(rest, "${") {
		return errors.New("reference is not of the form ${file:/path} or ${env:NAME}")
	}
	return nil
}

// resolvePaths makes relative ${file:…} references absolute.
func (s Secret) resolvePaths(dir string) Secret {
	s.text = reference.ReplaceAllStringFunc(s.text, func(ref string) string {
		name, ok := strings.CutPrefix(ref[2:len(ref)-1], "file:")
		if !ok || name == "" || filepath.IsAbs(name) {
			return ref
		}
		return "${file:" + filepath.Join(dir, name) + "}"
	})
	return s
}

// Props are properties of a catalog or a store, by PyIceberg's names.
type Props map[string]Secret

// secretWords mark property names whose values are secrets whatever they hold.
var secretWords = []string{"token", "password", "passwd", "secret", "credential", "account-key", "sas", "private-key", "api-key", "apikey"}

// secretName says whether a property of that name is a secret. Names such as
// oauth2-server-uri or token-refresh-enabled configure how one is got.
func secretName(name string) bool {
	name = strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	for _, harmless := range []string{"-uri", "-url", "-enabled", "-exchange", "-type", "token-expires-in", "-expiration", "-ms"} {
		if strings.HasSuffix(name, harmless) {
			return false
		}
	}
	return slices.ContainsFunc(secretWords, func(w string) bool {
		if w == "sas" {
			return slices.Contains(strings.FieldsFunc(name, func(r rune) bool { return r == '.' || r == '-' }), w)
		}
		return strings.Contains(name, w)
	})
}

// newProp returns the value of a named property, marked when it must be hidden.
func newProp(name, text string) Secret {
	return Secret{text: text, sensitive: secretName(name) || reference.MatchString(text) || hasPassword(text)}
}

// literalSecret says whether the file itself holds the secret.
func (s Secret) literalSecret(name string) bool {
	if reference.MatchString(s.text) {
		// user:${env:PW}@host is fine; a literal password beside a reference elsewhere is not.
		return hasPassword(reference.ReplaceAllString(s.text, ""))
	}
	return s.text != "" && (secretName(name) || hasPassword(s.text))
}

// hasPassword says whether a URL carries a password or a signed query.
func hasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		// Not a URL that parses; one with an @ after :// may still hold a password.
		_, rest, ok := strings.Cut(text, "://")
		return ok && strings.Contains(rest, "@")
	}
	if pw, ok := u.User.Password(); ok && pw != "" {
		return true
	}
	q := u.Query()
	return q.Has("sig") || q.Has("X-Amz-Signature") || q.Has("password") || q.Has("sslpassword")
}

// Reveal resolves every property.
func (p Props) Reveal() (map[string]string, error) {
	out := make(map[string]string, len(p))
	for name, s := range p {
		v, err := s.Reveal()
		if err != nil {
			return nil, fmt.Errorf("property %s: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}

// Get returns the value of a property that is no secret.
func (p Props) Get(name string) string { return p[name].String() }

// Written returns the properties as a job file may hold them: references as
// they are, and in place of a literal secret a reference to an environment
// variable named after prefix and property.
func (p Props) Written(prefix string) map[string]string {
	out := make(map[string]string, len(p))
	for name, s := range p {
		out[name] = s.text
		if s.literalSecret(name) {
			out[name] = "${env:" + strings.ToUpper(envForm.ReplaceAllString(prefix+"_"+name, "_")) + "}"
		}
	}
	return out
}

var envForm = regexp.MustCompile(`[^a-zA-Z0-9]+`)
