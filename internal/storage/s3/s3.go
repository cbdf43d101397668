// Package s3 is the storage back end for that cloud; import it for its effect.
package s3
