package s3

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/expunge/expunge/internal/storage"
)

// ownership says whether a bucket's objects have access control lists.
type ownership int

const (
	unasked ownership = iota
	untold            // the server does not tell, or not to us
	noLists           // bucket owner enforced: lists are disabled, as in all new buckets
	lists
)

// unreadable is why an object with an unknown list is not replaced.
const unreadable = "its access control list, which cannot be read (s3:GetBucketOwnershipControls or s3:GetObjectAcl)"

// access adds the access control list, where it is not the default one, to an
// object's attributes. A server that knows no lists has none to keep.
func (b *bucket) access(ctx context.Context, path string, a *storage.Attributes) error {
	who, err := b.ownership(ctx, path)
	if err != nil || who == noLists {
		return err
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.GetObjectAcl(ctx2, &s3.GetObjectAclInput{Bucket: &b.name, Key: b.key(path)})
	if err = fail(ctx, "read access control list", path, err); err != nil {
		switch {
		case storage.IsTransient(err), storage.IsNotExist(err), ctx.Err() != nil:
			return err
		case who == lists, errors.Is(err, fs.ErrPermission):
			a.Unkept = unreadable
		}
		return nil
	}
	a.Grants, a.Unkept = grantsOf(out)
	return nil
}

// ownership asks once what the bucket does about lists.
func (b *bucket) ownership(ctx context.Context, path string) (ownership, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lists != unasked {
		return b.lists, nil
	}
	ctx2, cancel := patience(ctx, 0)
	defer cancel()
	out, err := b.client.GetBucketOwnershipControls(ctx2, &s3.GetBucketOwnershipControlsInput{Bucket: &b.name})
	err = fail(ctx, "read ownership controls", path, err)
	switch {
	case storage.IsTransient(err), err != nil && ctx.Err() != nil:
		return unasked, err
	case err != nil || out.OwnershipControls == nil || len(out.OwnershipControls.Rules) == 0:
		b.lists = untold
	case out.OwnershipControls.Rules[0].ObjectOwnership == types.ObjectOwnershipBucketOwnerEnforced:
		b.lists = noLists
	default:
		b.lists = lists
	}
	return b.lists, nil
}

// grantsOf are the grants of a list that is not the default one, the owner's
// full control alone; unkept says what a write could not repeat.
func grantsOf(out *s3.GetObjectAclOutput) (grants []storage.Grant, unkept string) {
	plain := true
	for _, g := range out.Grants {
		if g.Grantee == nil {
			continue
		}
		who := ""
		switch id := aws.ToString(g.Grantee.ID); {
		case id != "":
			who = "id=" + quote(id)
			own := out.Owner == nil || aws.ToString(out.Owner.ID) == id
			plain = plain && own && g.Permission == types.PermissionFullControl
		case aws.ToString(g.Grantee.URI) != "":
			who, plain = "uri="+quote(aws.ToString(g.Grantee.URI)), false
		case aws.ToString(g.Grantee.EmailAddress) != "":
			who, plain = "emailAddress="+quote(aws.ToString(g.Grantee.EmailAddress)), false
		case out.Owner == nil || aws.ToString(out.Owner.ID) == "":
			if g.Permission == types.PermissionFullControl {
				continue // the owner's, on a server whose accounts have no ids: MinIO
			}
			fallthrough
		default:
			return nil, "a grant of its access control list"
		}
		grants = append(grants, storage.Grant{Permission: string(g.Permission), Grantee: who})
	}
	if plain {
		return nil, ""
	}
	return grants, ""
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, "") + `"` }

// grant is the header that gives a permission to all that have it.
func (a *attributes) grant(p types.Permission) *string {
	var who []string
	for _, g := range a.Grants {
		if g.Permission == string(p) {
			who = append(who, g.Grantee)
		}
	}
	return opt(strings.Join(who, ", "))
}
