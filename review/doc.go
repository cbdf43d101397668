// Package review is the local web page over a state bucket: runs and outcomes
// by day, the progress of a running job, requests near their deadline, what is
// still stored, which targets are covered, the manifests with every file of
// their evidence, the log's health, and metrics.
//
// It only reads, and of the bucket only what holds no key: manifests/ with
// their evidence, log/, status/ and leases/. Every other path, the runs' sealed
// files, secrets and signing keys among them, is refused below everything else
// (see readable), so that no handler can serve one by mistake. What became of
// each request stands in sealed files; whoever starts the server may give it a
// function that says that without a key (Config.Requests).
//
// Without a token it listens on the loopback interface alone; with one, every
// request but /healthz has to present it. Requests for a host name that the
// server does not know are refused, which is what stops DNS rebinding; only
// GET and HEAD are answered; no page runs or loads anything that is not the
// server's own.
//
// An index in memory (see index) keeps one small summary a run and a manifest.
// It reads what has changed and nothing else, newest first, in the background;
// a page says how much of it was read so far. A manifest's evidence is never
// read whole: a page of records is, and the columns that a search names.
//
// Outcomes in lists are what the manifests say; a manifest's own page checks
// its signature, form, rule and log inclusion against the trust it was given.
package review
