// Package hive registers the catalog kind "hive": a Hive metastore, with
// PyIceberg's property names (uri as thrift://host:port, hive.kerberos-
// authentication and so on).
package hive

import (
	"context"
	"errors"
	"io"
	"maps"

	"github.com/apache/iceberg-go/catalog"
	hivecat "github.com/apache/iceberg-go/catalog/hive"

	"github.com/expunge/expunge/warehouse/iceberg"
)

func init() { iceberg.RegisterCatalog("hive", Open) }

// Open connects to the metastore.
func Open(_ context.Context, _ string, props map[string]string) (catalog.Catalog, io.Closer, error) {
	if props["uri"] == "" {
		return nil, nil, errors.New("uri is missing")
	}
	cat, err := hivecat.NewCatalog(maps.Clone(props))
	return cat, nil, err
}
