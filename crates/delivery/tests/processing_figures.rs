//! What a record costs in a pipeline, as figures. Run by hand, in release:
//! `cargo test -p alluvium-delivery --release --test processing_figures -- --ignored --nocapture`.

#![allow(clippy::unwrap_used)] // tests unwrap

use alluvium_delivery::processing::{Pipeline, Purpose};
use alluvium_delivery::stream::{Processing, Processor};
use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

const RECORD: &[u8] = br#"{"device_id":"sensor-00421","site":"plant-7","measured_at":1767431107089000,"temperature":21.53,"humidity":0.4821,"status":"ok","seq":9182}"#;

fn nanoseconds(processors: Vec<Processor>, record: &[u8], rounds: u32) -> u128 {
    let processing = Processing { enabled: true, processors };
    let mut pipeline = Pipeline::compile(&processing, Purpose::Iceberg).unwrap();
    let begun = Instant::now();
    for _ in 0..rounds {
        let done: Result<(), Infallible> = pipeline.run(black_box(record), &mut |step| {
            black_box(&step);
            Ok(())
        });
        let Ok(()) = done;
    }
    begun.elapsed().as_nanos() / u128::from(rounds)
}

fn processor(kind: &str, parameters: &[(&str, &str)]) -> Processor {
    let owned = |(name, value): &(&str, &str)| ((*name).to_string(), (*value).to_string());
    Processor { kind: kind.into(), parameters: parameters.iter().map(owned).collect() }
}

#[test]
#[ignore = "prints how long a record takes and judges nothing: run it by hand, in release, with --nocapture"]
fn time_that_a_record_takes() {
    for query in [
        r#"{destinationDatabaseName:"db",destinationTableName:.site,operation:"insert"}"#,
        r#"{destinationDatabaseName:.site,destinationTableName:.device_id,operation:.status}"#,
        r#"{destinationDatabaseName:"db",destinationTableName:(.site|ascii_downcase)}"#,
        r#"{destinationDatabaseName:"db",destinationTableName:("t_"+(.measured_at/1000000|strftime("%Y")))}"#,
    ] {
        let extraction = processor("MetadataExtraction", &[("MetadataExtractionQuery", query)]);
        let taken = nanoseconds(vec![extraction], RECORD, 200_000);
        println!("{taken} ns a record of {} bytes: {query}", RECORD.len());
    }
    let parts = processor("RecordDeAggregation", &[("SubRecordType", "JSON")]);
    let many = RECORD.repeat(100);
    let taken = nanoseconds(vec![parts], &many, 5_000) / 100;
    println!("{taken} ns a sub-record of {} bytes, 100 in a record", RECORD.len());
}
