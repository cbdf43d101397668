package storage

import "context"

// ReadOnly refuses every operation that would change what is stored. Dry runs
// use it, so that "writes nothing" is a property of the program and not of
// each step in it.
func ReadOnly(s Store) Store {
	return WithGuard(s, func(context.Context, Call) error { return ErrReadOnly })
}

// WithGuard asks before every operation that would change what is stored; an
// error from check is the operation's, and nothing has changed. The kill
// switch of a run and the fencing of its lease are such checks.
func WithGuard(s Store, check func(context.Context, Call) error) Store {
	return decorate(s, func(ctx context.Context, c *Call, next func(context.Context) error) error {
		if c.Op.Mutates() {
			if err := check(ctx, *c); err != nil {
				return NewError(c.Op.String(), c.Path, err, "", nil)
			}
		}
		return next(ctx)
	})
}
