// Package state keeps what runs know, in a bucket or a local folder.
//
// The layout under the root:
//
//	secrets/<run>           the run's secret, 32 bytes, mode 0600, optionally wrapped
//	status/<run>.json       a small summary without keys, in clear
//	runs/<run>/...          everything else a run stores
//	leases/<digest>.json    who works on what, see Lease
//
// What a run stores is sealed (see NewSealer) under keys derived from its
// secret, manifests and evidence excepted. Destroying the secret therefore
// closes every link from what is left to any person, and is final.
//
// All writes are whole objects: a crash leaves an object or none. Names within
// a run carry no keys; they are the callers' to choose, deterministic where a
// step may be repeated.
package state
