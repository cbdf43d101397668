// Package azure is the storage back end for that cloud; import it for its effect.
package azure
