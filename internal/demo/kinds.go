package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/iceberg-go"
)

// Each table is filled in two halves, with something in between that makes the
// second half differ from the first: a rename, deletes, a new partition field.

var (
	regions = []string{"eu", "us", "apac", "latam"}
	pages   = []string{"/", "/search", "/cart", "/checkout", "/account", "/help", "/product/alpha", "/product/beta", "/product/gamma", "/orders"}
	agents  = []string{"Firefox on Linux", "Safari on iOS", "Chrome on Windows", "Chrome on Android", "Edge on Windows"}
	start   = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
)

// buckets is the number of hash buckets of the clicks.
const buckets = 8

func bucketOf(id int32) int {
	out := iceberg.BucketTransform{NumBuckets: buckets}.Apply(iceberg.Optional[iceberg.Literal]{Valid: true, Val: iceberg.NewLiteral(id)})
	return int(out.Val.Any().(int32))
}

// monthOf is the partition value of a month transform: months since 1970.
func monthOf(m int) (value int32, folder string, first time.Time) {
	first = start.AddDate(0, m, 0)
	return int32((first.Year()-1970)*12 + int(first.Month()) - 1), first.Format("2006-01"), first
}

// moment draws a time within a month.
func moment(r *rand.Rand, first time.Time) arrow.Timestamp {
	return arrow.Timestamp(first.UnixMicro() + r.Int64N(28*24*int64(time.Hour/time.Microsecond)))
}

func field(id int, name string, t iceberg.Type, required bool) iceberg.NestedField {
	return iceberg.NestedField{ID: id, Name: name, Type: t, Required: required}
}

func specOf(source, id int, name string, t iceberg.Transform) *iceberg.PartitionSpec {
	s := iceberg.NewPartitionSpec(iceberg.PartitionField{SourceIDs: []int{source}, FieldID: id, Name: name, Transform: t})
	return &s
}

var (
	long, text = iceberg.PrimitiveTypes.Int64, iceberg.PrimitiveTypes.String
	stamp      = iceberg.PrimitiveTypes.TimestampTz
)

func ordersKind() kind {
	schema := iceberg.NewSchema(0,
		field(1, "order_id", long, true),
		field(2, "customer", &iceberg.StructType{FieldList: []iceberg.NestedField{field(3, "id", long, false), field(4, "tier", text, false)}}, false),
		field(5, "contact", &iceberg.StructType{FieldList: []iceberg.NestedField{field(6, "mail", text, false), field(7, "phone", text, false)}}, false),
		field(8, "order_ts", stamp, true),
		field(9, "amount", iceberg.DecimalTypeOf(12, 2), false),
		field(10, "note", text, false),
	)
	return kind{name: "sales.orders", percent: 40, version: "2", schema: schema, spec: specOf(8, 1000, "order_ts_month", iceberg.MonthTransform{}),
		codec: compress.Codecs.Zstd, bloom: "customer.id", fill: fillOrders}
}

func fillOrders(ctx context.Context, b *builder, rows int64) error {
	const months, filesAMonth = 8, 2
	serial := int64(0)
	half := func(from, to int) (data []*dataFile, err error) {
		for m := from; m < to; m++ {
			value, folder, first := monthOf(m)
			for range filesAMonth {
				f, err := b.write(max(rows/months/filesAMonth, 10), "order_ts_month="+folder, map[int]any{1000: value}, func(rec *array.RecordBuilder) []int64 {
					serial++
					return b.order(rec, serial, first)
				})
				if err != nil {
					return nil, err
				}
				data = append(data, f)
			}
		}
		return data, b.commit(ctx, data, nil)
	}
	old, err := half(0, months/2)
	if err != nil {
		return err
	}
	// Half of the files know the address as contact.mail.
	tx := b.tbl.NewTransaction()
	if err := tx.UpdateSchema(true, false).RenameColumn([]string{"contact", "mail"}, "email").Commit(); err != nil {
		return err
	}
	if err := b.apply(ctx, tx); err != nil {
		return err
	}
	recent, err := half(months/2, months)
	if err != nil {
		return err
	}
	var deletes []iceberg.DataFile
	for _, f := range []*dataFile{old[0], old[1], recent[0], recent[3]} {
		d, err := b.positionDeletes(f)
		if err != nil {
			return err
		}
		deletes = append(deletes, d)
	}
	return b.commit(ctx, nil, deletes)
}

// order appends an order. One in fifty is a guest's: it has an address but no customer id.
func (b *builder) order(rec *array.RecordBuilder, serial int64, first time.Time) []int64 {
	user := b.people.any(b.rand)
	rec.Field(0).(*array.Int64Builder).Append(serial)
	customer := rec.Field(1).(*array.StructBuilder)
	customer.Append(true)
	if b.rand.IntN(50) == 0 {
		customer.FieldBuilder(0).AppendNull()
	} else {
		customer.FieldBuilder(0).(*array.Int64Builder).Append(user)
	}
	customer.FieldBuilder(1).(*array.StringBuilder).Append([]string{"basic", "plus", "pro"}[user%3])
	contact := rec.Field(2).(*array.StructBuilder)
	contact.Append(true)
	contact.FieldBuilder(0).(*array.StringBuilder).Append(b.mail(user))
	if user%4 == 0 {
		contact.FieldBuilder(1).AppendNull()
	} else {
		contact.FieldBuilder(1).(*array.StringBuilder).Append(fmt.Sprintf("+49 30 %07d", user*7919%10_000_000))
	}
	rec.Field(3).(*array.TimestampBuilder).Append(moment(b.rand, first))
	rec.Field(4).(*array.Decimal128Builder).Append(decimal128.FromI64(b.rand.Int64N(50_000) + 99))
	if b.rand.IntN(20) == 0 {
		rec.Field(5).(*array.StringBuilder).Append("leave with neighbour")
	} else {
		rec.Field(5).AppendNull()
	}
	return []int64{user}
}

func clicksKind() kind {
	schema := iceberg.NewSchema(0,
		field(1, "event_id", iceberg.PrimitiveTypes.UUID, true),
		field(2, "user_id", iceberg.PrimitiveTypes.Int32, false),
		field(3, "ts", stamp, true),
		field(4, "page", text, false),
		field(5, "duration_ms", iceberg.PrimitiveTypes.Int32, false),
	)
	return kind{name: "events.clicks", percent: 40, version: "2", schema: schema, spec: specOf(2, 1000, "user_id_bucket", iceberg.BucketTransform{NumBuckets: buckets}),
		codec: compress.Codecs.Snappy, fill: fillClicks}
}

func fillClicks(ctx context.Context, b *builder, rows int64) error {
	const filesABucket = 2
	half := func(month int) error {
		var data []*dataFile
		_, _, first := monthOf(month)
		for bucket := range buckets {
			users := b.people.buckets[bucket]
			f, err := b.write(max(rows/buckets/filesABucket, 10), fmt.Sprintf("user_id_bucket=%d", bucket), map[int]any{1000: int32(bucket)}, func(rec *array.RecordBuilder) []int64 {
				return b.click(rec, users[b.rand.IntN(len(users))], first)
			})
			if err != nil {
				return err
			}
			data = append(data, f)
		}
		return b.commit(ctx, data, nil)
	}
	if err := half(0); err != nil {
		return err
	}
	// An earlier, half-hearted erasure: equality deletes by user id. The rows and the ids are all still stored.
	ids := append([]int64(nil), b.people.erased[:3]...)
	for range 10 {
		ids = append(ids, b.people.any(b.rand))
	}
	if err := b.equalityDeletes(ctx, "user_id", ids); err != nil {
		return err
	}
	return half(1) // and those users came back
}

func (b *builder) click(rec *array.RecordBuilder, user int64, first time.Time) []int64 {
	var id [16]byte
	for i := 0; i < 16; i += 8 {
		v := b.rand.Uint64()
		for k := range 8 {
			id[i+k] = byte(v >> (8 * k))
		}
	}
	appendUUID(rec.Field(0), id)
	rec.Field(1).(*array.Int32Builder).Append(int32(user))
	rec.Field(2).(*array.TimestampBuilder).Append(moment(b.rand, first))
	rec.Field(3).(*array.StringBuilder).Append(pages[b.rand.IntN(len(pages))])
	rec.Field(4).(*array.Int32Builder).Append(int32(b.rand.IntN(60_000)))
	return []int64{user}
}

func loginsKind() kind {
	schema := iceberg.NewSchema(0,
		field(1, "user_id", long, true),
		field(2, "email", text, false),
		field(3, "ts", stamp, true),
		field(4, "region", text, true),
		field(5, "agent", text, false),
		field(6, "ok", iceberg.PrimitiveTypes.Bool, true),
	)
	return kind{name: "events.logins", percent: 15, version: "3", schema: schema, spec: specOf(3, 1000, "ts_month", iceberg.MonthTransform{}),
		codec: compress.Codecs.Zstd, bloom: "user_id", fill: fillLogins}
}

func fillLogins(ctx context.Context, b *builder, rows int64) error {
	const months = 4
	n := max(rows/months/2, 10)
	var data []*dataFile
	for m := range months {
		value, folder, first := monthOf(m)
		f, err := b.write(n, "ts_month="+folder, map[int]any{1000: value}, func(rec *array.RecordBuilder) []int64 {
			return b.login(rec, regions[b.rand.IntN(len(regions))], first)
		})
		if err != nil {
			return err
		}
		data = append(data, f)
	}
	if err := b.commit(ctx, data, nil); err != nil {
		return err
	}
	tx := b.tbl.NewTransaction()
	if err := tx.UpdateSpec(true).AddField("region", iceberg.IdentityTransform{}, "region").Commit(); err != nil {
		return err
	}
	if err := b.apply(ctx, tx); err != nil {
		return err
	}
	spec := b.tbl.Spec()
	byRegion := spec.Field(spec.NumFields() - 1).FieldID
	old := data
	data = nil
	for m := range months {
		value, folder, first := monthOf(m)
		region := regions[m%len(regions)]
		f, err := b.write(n, "ts_month="+folder+"/region="+region, map[int]any{1000: value, byRegion: region}, func(rec *array.RecordBuilder) []int64 {
			return b.login(rec, region, first)
		})
		if err != nil {
			return err
		}
		data = append(data, f)
	}
	if err := b.commit(ctx, data, nil); err != nil {
		return err
	}
	vectors, err := b.vectors(ctx, []*dataFile{old[0], old[2], data[1]})
	if err != nil {
		return err
	}
	return b.commit(ctx, nil, vectors)
}

func (b *builder) login(rec *array.RecordBuilder, region string, first time.Time) []int64 {
	user := b.people.any(b.rand)
	rec.Field(0).(*array.Int64Builder).Append(user)
	rec.Field(1).(*array.StringBuilder).Append(b.mail(user))
	rec.Field(2).(*array.TimestampBuilder).Append(moment(b.rand, first))
	rec.Field(3).(*array.StringBuilder).Append(region)
	rec.Field(4).(*array.StringBuilder).Append(agents[b.rand.IntN(len(agents))])
	rec.Field(5).(*array.BooleanBuilder).Append(b.rand.IntN(9) != 0)
	return []int64{user}
}

func ticketsKind() kind {
	person := &iceberg.StructType{FieldList: []iceberg.NestedField{field(5, "id", long, false), field(6, "role", text, false)}}
	schema := iceberg.NewSchema(0,
		field(1, "ticket", text, true),
		field(2, "region", text, true),
		field(3, "people", &iceberg.ListType{ElementID: 4, Element: person, ElementRequired: false}, false),
		field(7, "subject", text, false),
	)
	return kind{name: "support.tickets", percent: 5, version: "2", schema: schema, spec: specOf(2, 1000, "region", iceberg.IdentityTransform{}),
		codec: compress.Codecs.Gzip, fill: fillTickets}
}

func fillTickets(ctx context.Context, b *builder, rows int64) error {
	var data []*dataFile
	for _, region := range regions {
		f, err := b.write(max(rows/int64(len(regions)), 10), "region="+region, map[int]any{1000: region}, func(rec *array.RecordBuilder) []int64 {
			return b.ticket(rec, region)
		})
		if err != nil {
			return err
		}
		data = append(data, f)
	}
	return b.commit(ctx, data, nil)
}

// ticket appends a ticket with up to four people; some have an empty list, some none.
func (b *builder) ticket(rec *array.RecordBuilder, region string) []int64 {
	rec.Field(0).(*array.StringBuilder).Append(fmt.Sprintf("T-%08d", b.rand.IntN(100_000_000)))
	rec.Field(1).(*array.StringBuilder).Append(region)
	list := rec.Field(2).(*array.ListBuilder)
	n := b.rand.IntN(6) - 1
	var users []int64
	if n < 0 {
		list.AppendNull()
	} else {
		list.Append(true)
		person := list.ValueBuilder().(*array.StructBuilder)
		for i := range n {
			user := b.people.any(b.rand)
			users = append(users, user)
			person.Append(true)
			person.FieldBuilder(0).(*array.Int64Builder).Append(user)
			person.FieldBuilder(1).(*array.StringBuilder).Append([]string{"author", "agent", "watcher"}[min(i, 2)])
		}
	}
	rec.Field(3).(*array.StringBuilder).Append([]string{"refund", "login", "delivery", "other"}[b.rand.IntN(4)])
	return users
}
