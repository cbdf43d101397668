package s3

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/expunge/expunge/internal/storage"
)

// fail classifies an error of the client. The context tells a caller's own
// cancellation from a request that ran out of patience.
func fail(ctx context.Context, op, path string, err error) error {
	if err == nil {
		return nil
	}
	var known *storage.Error
	if errors.As(err, &known) {
		return err
	}
	if ctx.Err() != nil {
		return storage.NewError(op, path, ctx.Err(), "", err)
	}
	code, status := codeOf(err)
	class := classOf(code, status)
	if class == nil {
		_, class = storage.Classify(err)
		if errors.Is(class, context.DeadlineExceeded) || errors.Is(class, context.Canceled) {
			class = storage.ErrTransient // our own patience
		}
	}
	return storage.NewError(op, path, class, code, err)
}

// codeOf returns the store's error code and the HTTP status, as far as there are any.
func codeOf(err error) (code string, status int) {
	var api smithy.APIError
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	var response *awshttp.ResponseError
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	if strings.ContainsAny(code, " /=") || len(code) > 64 {
		code = "" // not a code but a text, which may quote the key
	}
	if code == "" && status != 0 {
		code = fmt.Sprint(status)
	}
	return code, status
}

// classOf maps code and status. Codes go first: some servers send the right
// code under a wrong status, never the other way round.
func classOf(code string, status int) error {
	switch code {
	case "NoSuchKey", "NotFound", "NoSuchBucket", "NoSuchVersion":
		return fs.ErrNotExist
	case "InvalidObjectState":
		return storage.ErrArchived
	case "PreconditionFailed":
		return storage.ErrPrecondition
	case "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "AllAccessDisabled":
		return fs.ErrPermission
	case "SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "Busy":
		return storage.ErrThrottled
	case "ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "InternalError", "ServiceUnavailable", "RequestTimeTooSkewed":
		if status == 503 {
			return storage.ErrThrottled
		}
		return storage.ErrTransient
	case "QuotaExceeded", "InsufficientStorage", "EntityTooLarge", "XMinioStorageFull":
		return storage.ErrNoSpace
	case "NotImplemented", "MethodNotAllowed":
		return storage.ErrUnsupported
	}
	switch {
	case status == 404:
		return fs.ErrNotExist
	case status == 412:
		return storage.ErrPrecondition
	case status == 401 || status == 403:
		return fs.ErrPermission
	case status == 429 || status == 503:
		return storage.ErrThrottled
	case status == 507:
		return storage.ErrNoSpace
	case status == 501 || status == 405:
		return storage.ErrUnsupported
	case status == 408 || status == 409 || status >= 500:
		return storage.ErrTransient
	}
	return nil
}
