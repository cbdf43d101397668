// Package gcs is the storage back end for that cloud; import it for its effect.
package gcs
