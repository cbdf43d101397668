// Package glue registers the catalog kind "glue": the AWS Glue Data Catalog,
// with PyIceberg's property names (glue.region, glue.endpoint, glue.id,
// glue.access-key-id and so on) and AWS's default credential chain.
package glue

import (
	"context"
	"io"
	"maps"

	"github.com/apache/iceberg-go/catalog"
	_ "github.com/apache/iceberg-go/catalog/glue" // registers its opener

	"github.com/expunge/expunge/warehouse/iceberg"
)

func init() { iceberg.RegisterCatalog("glue", Open) }

// Open resolves credentials; it makes no request yet.
func Open(ctx context.Context, name string, props map[string]string) (catalog.Catalog, io.Closer, error) {
	p := maps.Clone(props)
	p["type"] = "glue"
	cat, err := catalog.Load(ctx, "expunge:"+name, p)
	return cat, nil, err
}
