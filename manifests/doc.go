// Package manifests is the evidence of a run: what an audit manifest says, how
// it is signed, how it is logged, and how somebody who does not trust the
// writer checks it.
//
// It can be imported alone. It needs no state bucket, no catalog and no
// network: a manifest, its sidecar, its log proof and a trust file are enough.
//
// # The files of a run
//
//	<id>.intoto.jsonl   one DSSE envelope with an in-toto Statement v1; the predicate is a Manifest
//	<id>.evidence.parquet  the sidecar: one Record a file or physical delete
//	<id>.tlog-proof     the envelope's inclusion proof and the checkpoint it leads to
//	log/                the C2SP tlog-tiles log of all manifests
//
// Sign makes the first, SidecarWriter the second, Log.Append the third. Verify
// checks all of them against a trust file and reports each check by name; what
// was not given is reported as skipped, never as passed. VerifyLog reads a whole
// log. Text and HTML show a manifest to people. Certify, SignCertificate and
// VerifyCertificate are for the one person whose key was in a run.
//
// # What is claimed
//
// "Absent from these enumerated surfaces, at these versions, checked this
// way." The outcome is not written by the run: Decide derives it from the
// manifest's own facts and Verify derives it again.
//
// # What never appears
//
// No key, in clear or as a plain or publicly salted hash. Keys are committed to
// as HMAC-SHA-256 tokens, each under a nonce of its own that only the run's
// secret yields; paths that may hold a partition value are keyed digests. The
// manifest holds no floating-point number, so that its canonical form
// (RFC 8785) is the same in every language.
package manifests

// Claim is what a manifest asserts, and no more than that.
const Claim = "absent from the enumerated surfaces, at the stated versions, checked in the stated way"
