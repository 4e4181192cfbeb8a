//! A `PutRecordBatch` body of sensor readings, prepared once and sent many times.
//!
//! A record is the samples' sensor reading, about 140 bytes. Its time stands at an offset that is a
//! multiple of three, so that base64 turns it into characters of its own: a batch is brought up to
//! date by writing sixteen characters for each record.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Sensors that report, as in the samples.
const SENSORS: u64 = 10;
const LOCATIONS: [&str; 5] =
    ["warehouse-north", "warehouse-south", "office-floor-01", "office-floor-02", "cold-storage-01"];
/// Length of what precedes the time: a multiple of three.
const TIME_AT: usize = 39;
/// `:1700000000,` in base64.
const TIME_CHARS: usize = 16;
/// Digits of a stream's number.
const NUMBER_DIGITS: usize = 5;

/// A prepared body.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    body: Vec<u8>,
    times: Vec<usize>,
    /// Where the digits of the stream's number are, if the load goes to several streams.
    number_at: Option<usize>,
    written_s: i64,
    /// Bytes of its records before base64.
    pub(super) payload_bytes: u64,
}

/// One reading; `number` decides all of it but its time.
fn reading(number: u64) -> String {
    // A fixed mix of the number's bits, so that values vary and runs repeat.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let part = |shift: u32, span: u64| (mixed >> shift) % span;
    let sensor = number % SENSORS + 1;
    let location = LOCATIONS[(sensor % LOCATIONS.len() as u64) as usize];
    format!(
        "{{\"sensor_id\":\"sensor-{sensor:05}\",\"timestamp\":{:010},\"location\":\"{location}\",\
         \"temperature\":{}.{:02},\"humidity\":{}.{:02},\"pressure\":{}.{:02}}}",
        0,
        18 + part(8, 12),
        part(16, 100),
        30 + part(24, 40),
        part(32, 100),
        980 + part(40, 50),
        part(48, 100),
    )
}

impl Batch {
    /// `count` readings, the first of this number. With `numbered`, `stream` is the beginning of
    /// the names of several streams.
    pub(super) fn new(stream: &str, numbered: bool, first: u64, count: u64) -> Self {
        let quoted = serde_json::Value::from(stream).to_string();
        let open = &quoted[..quoted.len() - 1]; // the number may follow before the name ends
        let mut body = format!("{{\"DeliveryStreamName\":{open}").into_bytes();
        let number_at = numbered.then(|| {
            body.push(b'-');
            body.extend_from_slice(&[b'0'; NUMBER_DIGITS]);
            body.len() - NUMBER_DIGITS
        });
        body.extend_from_slice(b"\",\"Records\":[");
        let (mut times, mut payload_bytes) = (Vec::new(), 0);
        for number in first..first + count {
            if number > first {
                body.push(b',');
            }
            let record = reading(number);
            payload_bytes += record.len() as u64;
            body.extend_from_slice(b"{\"Data\":\"");
            times.push(body.len() + TIME_AT / 3 * 4);
            body.extend_from_slice(STANDARD.encode(record).as_bytes());
            body.extend_from_slice(b"\"}");
        }
        body.extend_from_slice(b"]}");
        Self { body, times, number_at, written_s: -1, payload_bytes }
    }

    /// How many readings.
    pub(super) fn count(&self) -> u64 {
        self.times.len() as u64
    }

    /// Sends the next bodies to the stream of this number.
    pub(super) fn address_to(&mut self, number: u64) {
        if let Some(at) = self.number_at {
            let digits = format!("{number:0NUMBER_DIGITS$}");
            self.body[at..at + NUMBER_DIGITS].copy_from_slice(digits.as_bytes());
        }
    }

    /// The body, with this time in every reading.
    pub(super) fn at(&mut self, now_s: i64) -> Bytes {
        if self.written_s != now_s {
            let time = STANDARD.encode(format!(":{now_s:010},"));
            if time.len() == TIME_CHARS {
                for &at in &self.times {
                    self.body[at..at + TIME_CHARS].copy_from_slice(time.as_bytes());
                }
                self.written_s = now_s;
            }
        }
        Bytes::copy_from_slice(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_a_reading_with_the_time_asked_for() {
        let mut batch = Batch::new("s", false, 7, 25);
        for now in [1_700_000_000, 1_800_000_001] {
            let body: serde_json::Value = serde_json::from_slice(&batch.at(now)).unwrap();
            assert_eq!(body["DeliveryStreamName"], "s");
            let records = body["Records"].as_array().unwrap();
            assert_eq!(records.len(), 25);
            let mut total = 0;
            for record in records {
                let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
                total += data.len() as u64;
                assert!((130..=160).contains(&data.len()), "{}", data.len());
                let reading: serde_json::Value = serde_json::from_slice(&data).unwrap();
                assert_eq!(reading["timestamp"], now);
                assert!(reading["sensor_id"].as_str().unwrap().starts_with("sensor-000"));
                for name in ["temperature", "humidity", "pressure"] {
                    assert!(reading[name].is_f64(), "{reading}");
                }
            }
            assert_eq!(total, batch.payload_bytes);
        }
    }

    #[test]
    fn any_name_is_text_in_the_body() {
        let mut batch = Batch::new("a\"b\\", false, 7, 1);
        let body: serde_json::Value = serde_json::from_slice(&batch.at(1_700_000_000)).unwrap();
        assert_eq!(body["DeliveryStreamName"], "a\"b\\");
    }

    #[test]
    fn numbered_streams_are_named_in_the_body() {
        let mut batch = Batch::new("s", true, 7, 2);
        batch.address_to(42);
        let body: serde_json::Value = serde_json::from_slice(&batch.at(1_700_000_000)).unwrap();
        assert_eq!(body["DeliveryStreamName"], "s-00042");
        assert_eq!(body["Records"].as_array().unwrap().len(), 2);
    }
}
