// Package rest registers the catalog kind "rest" with PyIceberg's property
// names: uri, warehouse, token, credential, oauth2-server-uri, scope, prefix,
// rest.sigv4-enabled, rest.signing-region, rest.signing-name, header.*.
package rest

import (
	"context"
	"errors"
	"io"
	"maps"

	"github.com/apache/iceberg-go/catalog"
	_ "github.com/apache/iceberg-go/catalog/rest" // registers its opener

	"github.com/expunge/expunge/warehouse/iceberg"
)

func init() { iceberg.RegisterCatalog("rest", Open) }

// Open connects to the server and reads its configuration.
func Open(ctx context.Context, name string, props map[string]string) (catalog.Catalog, io.Closer, error) {
	if props["uri"] == "" {
		return nil, nil, errors.New("uri is missing")
	}
	p := maps.Clone(props)
	p["type"] = "rest"
	// The name is one that no configuration file of the library's has.
	cat, err := catalog.Load(ctx, "expunge:"+name, p)
	return cat, nil, err
}
