package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/expunge/expunge/warehouse"
)

// statement is one statement of an AWS IAM policy.
type statement struct {
	Sid       string
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// Policy is the least that the job needs on S3, as an AWS IAM policy: reading
// keysets, reading and writing the tables' locations, and the state bucket. It
// is nil where nothing is on S3. What it cannot know is in the warnings.
func (j *Job) Policy(ctx context.Context) (json.RawMessage, []string, error) {
	p := &policyBuilder{buckets: map[string][]string{}}
	for _, k := range j.cfg.Keysets {
		for _, s := range append(slices.Clone([]string(k.Source)), k.Holds...) {
			p.objects("ReadKeys", s, "s3:GetObject")
		}
	}
	p.objects("State", strings.TrimSuffix(j.cfg.State, "/")+"/", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
	var warnings []string
	for i := range j.cfg.Targets {
		tc := &j.cfg.Targets[i]
		if tc.Prefix != "" {
			p.objects("Objects", strings.TrimSuffix(tc.Prefix, "/")+"/", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload",
				"s3:GetObjectTagging", "s3:PutObjectTagging", "s3:GetObjectVersion", "s3:DeleteObjectVersion")
			p.versions = true
			continue
		}
		names, err := j.tableNames(ctx, tc)
		if err != nil {
			warnings = append(warnings, fmt.Sprintf("target %s is not in the policy: it could not be resolved", tc.Name()))
			continue
		}
		if tc.Wildcard() {
			warnings = append(warnings, fmt.Sprintf("target %s is a pattern: tables created later need to be added", tc.Name()))
		}
		for _, name := range names {
			d, err := j.describe(ctx, name)
			if err != nil {
				warnings = append(warnings, fmt.Sprintf("table %s is not in the policy: it could not be opened", name))
				continue
			}
			p.objects("Tables", strings.TrimSuffix(d.Location, "/")+"/", "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload")
		}
	}
	raw, err := p.json()
	return raw, warnings, err
}

func (j *Job) describe(ctx context.Context, name string) (warehouse.Description, error) {
	t, err := j.openTarget(ctx, name)
	if err != nil {
		return warehouse.Description{}, err
	}
	return t.Describe(ctx)
}

type policyBuilder struct {
	versions   bool // buckets of prefixes: their versions and unfinished uploads are looked at
	statements []statement
	buckets    map[string][]string // bucket to the prefixes that are listed
}

// objects allows actions below a location: everything under it when it is a
// prefix, the part before the first wildcard when it is a pattern.
func (p *policyBuilder) objects(sid, location string, actions ...string) {
	rest, ok := cutScheme(location, "s3", "s3a", "s3n")
	if !ok {
		return
	}
	bucket, key, _ := strings.Cut(rest, "/")
	if i := strings.IndexAny(key, "*?["); i >= 0 {
		key = key[:i] + "*"
	} else if key == "" || strings.HasSuffix(key, "/") {
		key += "*"
	}
	resource := "arn:aws:s3:::" + bucket + "/" + key
	if !slices.Contains(p.buckets[bucket], key) {
		p.buckets[bucket] = append(p.buckets[bucket], key)
	}
	for i := range p.statements {
		if s := &p.statements[i]; s.Sid == sid {
			if !slices.Contains(s.Resource, resource) {
				s.Resource = append(s.Resource, resource)
			}
			return
		}
	}
	p.statements = append(p.statements, statement{Sid: sid, Effect: "Allow", Action: actions, Resource: []string{resource}})
}

func cutScheme(location string, schemes ...string) (string, bool) {
	for _, s := range schemes {
		if rest, ok := strings.CutPrefix(location, s+"://"); ok {
			return rest, true
		}
	}
	return "", false
}

func (p *policyBuilder) json() (json.RawMessage, error) {
	if len(p.statements) == 0 {
		return nil, nil
	}
	list := []string{"s3:ListBucket", "s3:ListBucketMultipartUploads"}
	if p.versions {
		list = append(list, "s3:ListBucketVersions")
		all := statement{Sid: "Buckets", Effect: "Allow", Action: []string{"s3:GetBucketVersioning", "s3:ListBucketMultipartUploads"}}
		for _, bucket := range sortedKeys(p.buckets) { // these know no prefix
			all.Resource = append(all.Resource, "arn:aws:s3:::"+bucket)
		}
		p.statements = append(p.statements, all)
	}
	for i, bucket := range sortedKeys(p.buckets) {
		slices.Sort(p.buckets[bucket])
		p.statements = append(p.statements, statement{Sid: fmt.Sprintf("List%d", i), Effect: "Allow", Action: list,
			Resource: []string{"arn:aws:s3:::" + bucket}, Condition: map[string]map[string][]string{"StringLike": {"s3:prefix": p.buckets[bucket]}}})
	}
	return json.MarshalIndent(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", p.statements}, "", "  ")
}
