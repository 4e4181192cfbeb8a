//! What the writer promises of files, partitions and statistics.

use super::*;
use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray};
use arrow::datatypes::Float64Type;
use iceberg::spec::{
    Datum, Literal, NestedField, PrimitiveType, Schema, SortOrder, TableMetadataBuilder, Transform,
    Type, UnboundPartitionSpec,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;

type Fields<'a> = &'a [(&'a str, PrimitiveType)];

fn table(
    fields: Fields<'_>,
    spec: &[(i32, Transform)],
    properties: &[(&str, &str)],
) -> TableMetadata {
    let schema = Schema::builder()
        .with_fields(fields.iter().enumerate().map(|(at, (name, kind))| {
            NestedField::optional(at as i32 + 1, *name, Type::Primitive(kind.clone())).into()
        }))
        .build()
        .unwrap();
    let mut unbound = UnboundPartitionSpec::builder();
    for (at, (source, transform)) in spec.iter().enumerate() {
        unbound = unbound.add_partition_field(*source, format!("p{at}"), *transform).unwrap();
    }
    let properties: HashMap<String, String> =
        properties.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let location = "s3://warehouse--table-s3".to_string();
    TableMetadataBuilder::new(
        schema,
        unbound.build(),
        SortOrder::unsorted_order(),
        location,
        FormatVersion::V2,
        properties,
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata
}

fn written(
    metadata: &TableMetadata,
    batches: &[RecordBatch],
    options: WriteOptions,
) -> Vec<PendingFile> {
    let mut writer = TableWriter::new(metadata, options).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    writer.finish().unwrap()
}

fn batch(metadata: &TableMetadata, columns: Vec<ArrayRef>) -> RecordBatch {
    let schema = iceberg::arrow::schema_to_arrow_schema(metadata.current_schema()).unwrap();
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn rows_of(file: &PendingFile) -> RecordBatch {
    let builder = ParquetRecordBatchReaderBuilder::try_new(file.bytes.clone()).unwrap();
    let schema = Arc::clone(builder.schema());
    let batches: Vec<_> = builder.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// A table partitioned by its only column, and rows for it.
pub(super) fn longs(values: std::ops::Range<i64>) -> (TableMetadata, RecordBatch) {
    let metadata = table(&[("v", PrimitiveType::Long)], &[(1, Transform::Identity)], &[]);
    let rows = batch(&metadata, vec![Arc::new(Int64Array::from_iter_values(values))]);
    (metadata, rows)
}

fn options() -> WriteOptions {
    WriteOptions::new("batch-7")
}

#[test]
fn an_unpartitioned_file_says_what_is_in_it() {
    let decimal = PrimitiveType::Decimal { precision: 9, scale: 2 };
    let wide = PrimitiveType::Decimal { precision: 30, scale: 2 };
    let metadata = table(
        &[
            ("id", PrimitiveType::Long),
            ("name", PrimitiveType::String),
            ("t", PrimitiveType::Double),
            ("d", decimal.clone()),
            ("w", wide.clone()),
            ("u", PrimitiveType::Uuid),
        ],
        &[],
        &[],
    );
    let uuid = |byte: u8| [byte; 16];
    let decimals = |precision| {
        let values = arrow::array::Decimal128Array::from(vec![Some(-1), None, Some(250)]);
        Arc::new(values.with_precision_and_scale(precision, 2).unwrap()) as ArrayRef
    };
    let rows = batch(
        &metadata,
        vec![
            Arc::new(Int64Array::from(vec![Some(3), None, Some(-5)])),
            Arc::new(StringArray::from(vec!["a long name of a sensor", "b", "a long name"])),
            Arc::new(Float64Array::from(vec![Some(f64::NAN), Some(0.0), Some(-0.0)])),
            decimals(9),
            decimals(30),
            Arc::new(
                FixedSizeBinaryArray::try_from_iter([uuid(0x80), uuid(1), uuid(0xff)].iter())
                    .unwrap(),
            ),
        ],
    );
    let files = written(&metadata, std::slice::from_ref(&rows), options());
    let [file] = files.as_slice() else { panic!("one file") };
    let data = &file.data_file;
    assert_eq!(file.key, "data/batch-7-00000.parquet");
    assert_eq!(data.file_path(), "s3://warehouse--table-s3/data/batch-7-00000.parquet");
    assert_eq!((data.record_count(), data.file_size_in_bytes()), (3, file.bytes.len() as u64));
    assert_eq!(data.value_counts().get(&1), Some(&3));
    assert_eq!(data.null_value_counts().get(&1), Some(&1));
    assert_eq!(data.nan_value_counts().get(&3), Some(&1));
    assert_eq!(data.split_offsets(), Some([4].as_slice()));
    assert_eq!(data.column_sizes().len(), 6);
    let decimal_of = |v: i128, kind: &PrimitiveType| {
        Datum::try_from_bytes(&v.to_be_bytes(), kind.clone()).unwrap()
    };
    let uuid_of = |byte| Datum::uuid(uuid::Uuid::from_bytes(uuid(byte)));
    let bounds = |id| {
        (
            data.lower_bounds().get(&id).cloned().unwrap(),
            data.upper_bounds().get(&id).cloned().unwrap(),
        )
    };
    assert_eq!(bounds(1), (Datum::long(-5), Datum::long(3)));
    assert_eq!(bounds(2), (Datum::string("a long name"), Datum::string("b")));
    assert_eq!(bounds(4), (decimal_of(-1, &decimal), decimal_of(250, &decimal)));
    assert_eq!(bounds(5), (decimal_of(-1, &wide), decimal_of(250, &wide)));
    assert_eq!(bounds(6), (uuid_of(1), uuid_of(0xff)));
    let zero = |datum: &Datum| {
        f64::from_le_bytes(datum.to_bytes().unwrap().as_slice().try_into().unwrap()).to_bits()
    };
    let (low, high) = bounds(3);
    assert_eq!((zero(&low), zero(&high)), ((-0.0_f64).to_bits(), 0.0_f64.to_bits()));
    let back = rows_of(file);
    assert_eq!(back.column(0), rows.column(0));
    assert_eq!(back.column(1), rows.column(1));
    assert_eq!(back.column(3), rows.column(3));
    assert_eq!(back.column(5), rows.column(5));
    assert!(back.column(2).as_primitive::<Float64Type>().value(0).is_nan());
}

#[test]
fn parquet_columns_carry_field_ids_and_uuids_are_annotated() {
    let metadata = table(&[("a", PrimitiveType::Long), ("u", PrimitiveType::Uuid)], &[], &[]);
    let rows = batch(
        &metadata,
        vec![
            Arc::new(Int64Array::from(vec![1])),
            Arc::new(FixedSizeBinaryArray::try_from_iter([[1_u8; 16]].iter()).unwrap()),
        ],
    );
    let files = written(&metadata, &[rows], options());
    let builder = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
    let columns = builder.parquet_schema().columns().to_vec();
    assert_eq!(
        columns.iter().map(|c| c.self_type().get_basic_info().id()).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(columns[1].logical_type_ref(), Some(&parquet::basic::LogicalType::Uuid));
}

#[test]
fn text_bounds_are_cut_to_the_tables_metrics_mode() {
    let text = "abcdefghijklmnopqrstuvwxyz";
    let upper = |properties: &[(&str, &str)]| {
        let metadata = table(&[("s", PrimitiveType::String)], &[], properties);
        let rows = batch(&metadata, vec![Arc::new(StringArray::from(vec![text]))]);
        written(&metadata, &[rows], options())[0].data_file.upper_bounds().get(&1).cloned()
    };
    assert_eq!(upper(&[]), Some(Datum::string("abcdefghijklmnoq")));
    assert_eq!(upper(&[("write.metadata.metrics.default", "full")]), Some(Datum::string(text)));
    assert_eq!(
        upper(&[("write.metadata.metrics.column.s", "truncate(2)")]),
        Some(Datum::string("ac"))
    );
    assert_eq!(upper(&[("write.metadata.metrics.column.s", "counts")]), None);
}

/// Values of every type, among them the edges that the library's own transforms can stand.
fn sources() -> Vec<(PrimitiveType, ArrayRef)> {
    use arrow::array::*;
    let longs = || {
        vec![
            Some(0_i64),
            Some(-1),
            None,
            Some(86_400_000_000),
            Some(1_700_000_000_000_000),
            Some(-86_400_000_001),
        ]
    };
    let ints = || vec![Some(0_i32), Some(-1), None, Some(34), Some(19_000), Some(-800)];
    let bytes = || {
        vec![
            Some(&b"abcd"[..]),
            Some(&b"abce"[..]),
            None,
            Some(&b"\x00\xff\xff\xff"[..]),
            Some(&b"abcd"[..]),
            Some(&b"zzzz"[..]),
        ]
    };
    let sixteen: Vec<Option<[u8; 16]>> = bytes().iter().map(|b| b.map(|b| [b[0]; 16])).collect();
    let fixed =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes().into_iter(), 4).unwrap();
    let uuids =
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(sixteen.into_iter(), 16).unwrap();
    let decimals: Vec<Option<i128>> =
        longs().iter().map(|v| v.map(|v| i128::from(v) % 10_000)).collect();
    let times: Vec<Option<i64>> =
        longs().iter().map(|v| v.map(|v| v.rem_euclid(86_400_000_000))).collect();
    let zoned = TimestampMicrosecondArray::from(longs()).with_timezone("+00:00");
    vec![
        (
            PrimitiveType::Boolean,
            Arc::new(BooleanArray::from(vec![
                Some(true),
                Some(false),
                None,
                Some(true),
                Some(false),
                Some(true),
            ])) as ArrayRef,
        ),
        (PrimitiveType::Int, Arc::new(Int32Array::from(ints()))),
        (PrimitiveType::Long, Arc::new(Int64Array::from(longs()))),
        (
            PrimitiveType::Float,
            Arc::new(Float32Array::from(vec![
                Some(1.5),
                Some(-0.0),
                None,
                Some(0.0),
                Some(f32::MIN),
                Some(1.5),
            ])),
        ),
        (
            PrimitiveType::Double,
            Arc::new(Float64Array::from(vec![
                Some(1.5),
                Some(-0.0),
                None,
                Some(0.0),
                Some(f64::MIN),
                Some(1.5),
            ])),
        ),
        (
            PrimitiveType::Decimal { precision: 9, scale: 2 },
            Arc::new(Decimal128Array::from(decimals).with_precision_and_scale(9, 2).unwrap()),
        ),
        (PrimitiveType::Date, Arc::new(Date32Array::from(ints()))),
        (PrimitiveType::Time, Arc::new(Time64MicrosecondArray::from(times))),
        (PrimitiveType::Timestamp, Arc::new(TimestampMicrosecondArray::from(longs()))),
        (PrimitiveType::Timestamptz, Arc::new(zoned)),
        (
            PrimitiveType::String,
            Arc::new(StringArray::from(vec![
                Some("a"),
                Some("a/b é"),
                None,
                Some(""),
                Some("a"),
                Some("longer than that"),
            ])),
        ),
        (PrimitiveType::Uuid, Arc::new(uuids)),
        (PrimitiveType::Fixed(4), Arc::new(fixed)),
        (PrimitiveType::Binary, Arc::new(LargeBinaryArray::from_opt_vec(bytes()))),
    ]
}

#[test]
fn every_transform_of_every_type_puts_each_row_in_its_partition() {
    let transforms = [
        Transform::Identity,
        Transform::Bucket(3),
        Transform::Truncate(3),
        Transform::Year,
        Transform::Month,
        Transform::Day,
        Transform::Hour,
        Transform::Void,
    ];
    let mut tried = 0;
    for (kind, column) in sources() {
        for transform in transforms {
            let Ok(result) = transform.result_type(&Type::Primitive(kind.clone())) else {
                continue;
            };
            tried += 1;
            let metadata =
                table(&[("v", kind.clone()), ("row", PrimitiveType::Long)], &[(1, transform)], &[]);
            if (&kind, transform) == (&PrimitiveType::Uuid, Transform::Identity) {
                // No manifest could name its files (see `commit::column_types`).
                let refused = TableWriter::new(&metadata, options()).unwrap_err();
                assert_eq!(refused.kind(), alluvium_base::ErrorKind::Unsupported);
                continue;
            }
            let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..column.len() as i64));
            let rows = batch(&metadata, vec![Arc::clone(&column), numbers]);
            let expected: Vec<Option<Literal>> = match transform {
                Transform::Void => vec![None; column.len()],
                _ => {
                    let function =
                        iceberg::transform::create_transform_function(&transform).unwrap();
                    // The library truncates bytes in one of their two forms only.
                    let source = match column.data_type() {
                        arrow_schema::DataType::LargeBinary => {
                            arrow::compute::cast(&column, &arrow_schema::DataType::Binary).unwrap()
                        }
                        _ => Arc::clone(&column),
                    };
                    let values = function.transform(source).unwrap();
                    iceberg::arrow::arrow_primitive_to_literal(&values, &result).unwrap()
                }
            };
            let files = written(&metadata, &[rows.clone(), rows], options());
            let mut seen = 0;
            for file in &files {
                let partition = file.data_file.partition().fields();
                for row in
                    rows_of(file).column(1).as_primitive::<arrow::datatypes::Int64Type>().values()
                {
                    assert_eq!(
                        partition,
                        std::slice::from_ref(&expected[*row as usize]),
                        "{transform} of {kind}"
                    );
                    seen += 1;
                }
            }
            assert_eq!(seen, 2 * column.len(), "{transform} of {kind}");
            let paths: std::collections::HashSet<&str> =
                files.iter().map(|f| f.key.as_str()).collect();
            assert_eq!(paths.len(), files.len());
        }
    }
    assert_eq!(tried, 14 + 11 + 5 + 3 + 3 + 3 + 2 + 14);
}

#[test]
fn the_same_rows_make_the_same_names_and_bytes() {
    let metadata = table(
        &[("v", PrimitiveType::Long), ("s", PrimitiveType::String)],
        &[(1, Transform::Bucket(8)), (2, Transform::Identity)],
        &[],
    );
    let rows = batch(
        &metadata,
        vec![
            Arc::new(Int64Array::from_iter_values(0..500)),
            Arc::new(StringArray::from_iter_values((0..500).map(|v| format!("k{}", v % 3)))),
        ],
    );
    let names =
        |files: &[PendingFile]| files.iter().map(|f| (f.key.clone(), f.md5())).collect::<Vec<_>>();
    let once = names(&written(&metadata, std::slice::from_ref(&rows), options()));
    assert_eq!(once, names(&written(&metadata, &[rows], options())));
    assert_eq!(once.len(), 24);
    assert!(once[0].0.starts_with("data/p0="), "{}", once[0].0);
    assert!(once[0].0.contains("/p1=k0/batch-7-"), "{}", once[0].0);
}

#[test]
fn open_files_and_file_sizes_are_bounded() {
    let metadata = table(&[("v", PrimitiveType::Long)], &[(1, Transform::Identity)], &[]);
    let rows = batch(&metadata, vec![Arc::new(Int64Array::from_iter_values(0..50))]);
    let mut writer =
        TableWriter::new(&metadata, WriteOptions { max_open_files: 4, ..options() }).unwrap();
    writer.write(&rows).unwrap();
    assert_eq!(writer.open.iter().flatten().count(), 4);
    assert_eq!(writer.take_finished().len() + writer.finish().unwrap().len(), 50);

    let metadata =
        table(&[("v", PrimitiveType::Long)], &[], &[("write.target-file-size-bytes", "2000")]);
    let rows = batch(&metadata, vec![Arc::new(Int64Array::from_iter_values(0..1000))]);
    let files = written(&metadata, &[rows.clone(), rows], options());
    assert_eq!(files.iter().map(|f| f.data_file.record_count()).collect::<Vec<_>>(), [1000, 1000]);
}

#[test]
fn codecs_are_honoured_or_refused_by_name() {
    let with = |codec: &str| {
        table(&[("v", PrimitiveType::Long)], &[], &[("write.parquet.compression-codec", codec)])
    };
    for codec in ["zstd", "ZSTD", "snappy", "gzip", "lz4", "brotli", "uncompressed"] {
        let metadata = with(codec);
        let rows = batch(&metadata, vec![Arc::new(Int64Array::from(vec![1, 2]))]);
        assert_eq!(
            rows_of(&written(&metadata, std::slice::from_ref(&rows), options())[0]).column(0),
            rows.column(0)
        );
    }
    let error = TableWriter::new(&with("lzo"), options()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("lzo"));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let metadata = table(&[("v", PrimitiveType::Long)], &[], &[]);
    let bad = TableWriter::new(&metadata, WriteOptions::new("../x")).unwrap_err();
    assert_eq!(bad.kind(), ErrorKind::Invalid);
    let outside =
        table(&[("v", PrimitiveType::Long)], &[], &[("write.data.path", "s3://other/data")]);
    assert_eq!(TableWriter::new(&outside, options()).unwrap_err().kind(), ErrorKind::Unsupported);
    let newer = metadata
        .clone()
        .into_builder(None)
        .upgrade_format_version(FormatVersion::V3)
        .unwrap()
        .build()
        .unwrap()
        .metadata;
    assert_eq!(TableWriter::new(&newer, options()).unwrap_err().kind(), ErrorKind::Unsupported);
    let mut writer = TableWriter::new(&metadata, options()).unwrap();
    let other = arrow_schema::Schema::new(vec![arrow_schema::Field::new(
        "v",
        arrow_schema::DataType::Utf8,
        true,
    )]);
    let rows = RecordBatch::try_new(Arc::new(other), vec![Arc::new(StringArray::from(vec!["x"]))])
        .unwrap();
    assert_eq!(writer.write(&rows).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(writer.finish().unwrap().is_empty());
}

#[test]
fn rows_of_a_sorted_table_are_in_its_order_in_each_file() {
    use iceberg::spec::{NullOrder, SortDirection, SortField};
    let fields =
        [("n", PrimitiveType::Long), ("t", PrimitiveType::String), ("at", PrimitiveType::Long)];
    let plain = table(&fields, &[], &[]);
    let field = |source_id, transform, direction, null_order| SortField {
        source_id,
        transform,
        direction,
        null_order,
    };
    let order = SortOrder::builder()
        .with_sort_field(field(
            1,
            Transform::Truncate(10),
            SortDirection::Descending,
            NullOrder::Last,
        ))
        .with_sort_field(field(2, Transform::Identity, SortDirection::Ascending, NullOrder::First))
        .build_unbound()
        .unwrap();
    let metadata = TableMetadataBuilder::new(
        plain.current_schema().as_ref().clone(),
        UnboundPartitionSpec::builder().build(),
        order,
        plain.location().to_string(),
        FormatVersion::V2,
        HashMap::new(),
    )
    .unwrap()
    .build()
    .unwrap()
    .metadata;
    let rows = |n: Vec<Option<i64>>, t: Vec<Option<&str>>, at: i64| {
        let count = n.len() as i64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(n)),
            Arc::new(StringArray::from(t)),
            Arc::new(Int64Array::from_iter_values(at..at + count)),
        ];
        batch(&metadata, columns)
    };
    let first =
        rows(vec![Some(5), None, Some(25), Some(21)], vec![Some("b"), Some("a"), None, None], 0);
    let second = rows(vec![Some(1), Some(29), None], vec![None, Some("a"), None], 4);
    let files = written(&metadata, &[first, second], WriteOptions::new("s"));
    assert_eq!(files.len(), 1);
    assert_eq!(files[0].data_file.sort_order_id(), Some(metadata.default_sort_order_id() as i32));
    let read = ParquetRecordBatchReaderBuilder::try_new(files[0].bytes.clone()).unwrap();
    let read: Vec<RecordBatch> = read.build().unwrap().map(Result::unwrap).collect();
    let at = read[0].column(2).as_primitive::<arrow::datatypes::Int64Type>();
    // 20s before 0s, nulls last; within them null texts first, equal rows as they came.
    assert_eq!(at.values(), &[2, 3, 5, 4, 0, 6, 1]);
    let unsorted = written(&plain, &[rows(vec![Some(2)], vec![None], 0)], WriteOptions::new("u"));
    assert_eq!(unsorted[0].data_file.sort_order_id(), Some(0));
}
