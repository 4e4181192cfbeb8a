//! A `PutRecordBatch` or `PutRecords` body of sensor readings, prepared once and sent many times.
//!
//! A record is the samples' sensor reading, about 140 bytes. Its time stands at an offset that is a
//! multiple of three, so that base64 turns it into characters of its own: a batch is brought up to
//! date by writing sixteen characters for each record. So does the number of its sensor, which is
//! written anew for each body when there are more sensors than the samples have.

use super::Service;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

/// Sensors that report, as in the samples.
pub(crate) const SENSORS: u32 = 10;
const LOCATIONS: [&str; 5] =
    ["warehouse-north", "warehouse-south", "office-floor-01", "office-floor-02", "cold-storage-01"];
/// Length of what precedes the sensor's number: a multiple of three.
const SENSOR_AT: usize = 21;
/// `00001"` in base64.
const SENSOR_CHARS: usize = 8;
/// Length of what precedes the time: a multiple of three.
const TIME_AT: usize = 39;
/// `:1700000000,` in base64.
const TIME_CHARS: usize = 16;
/// Digits of a stream's number.
const NUMBER_DIGITS: usize = 5;

/// What a body is like.
#[derive(Debug, Clone)]
pub(super) struct Form<'a> {
    /// The stream's name, or the beginning of the names of several.
    pub(super) stream: &'a str,
    /// Whether the names of several streams begin so.
    pub(super) numbered: bool,
    /// The API.
    pub(super) service: Service,
    /// How many sensors report.
    pub(super) sensors: u32,
    /// How many routes there are, if readings name one.
    pub(super) routes: Option<u32>,
}

/// A prepared body.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    body: Vec<u8>,
    /// Where each record's base64 begins.
    records: Vec<usize>,
    /// Where each record's partition key has the sensor's digits.
    keys: Vec<usize>,
    sensors: u64,
    /// Where the digits of the stream's number are, if the load goes to several streams.
    number_at: Option<usize>,
    written_s: i64,
    /// Bytes of its records before base64.
    pub(super) payload_bytes: u64,
}

/// One reading; `number` decides all of it but its time.
fn reading(number: u64, sensor: u64, routes: Option<u32>) -> String {
    // A fixed mix of the number's bits, so that values vary and runs repeat.
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let part = |shift: u32, span: u64| (mixed >> shift) % span;
    let route = routes.map_or_else(String::new, |routes| {
        format!(",\"route\":\"route_{}\"", number % u64::from(routes))
    });
    let location = LOCATIONS[(sensor % LOCATIONS.len() as u64) as usize];
    format!(
        "{{\"sensor_id\":\"sensor-{sensor:05}\",\"timestamp\":{:010},\"location\":\"{location}\",\
         \"temperature\":{}.{:02},\"humidity\":{}.{:02},\"pressure\":{}.{:02}{route}}}",
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
    /// `count` readings, the first of this number.
    pub(super) fn new(form: &Form<'_>, first: u64, count: u64) -> Self {
        let quoted = serde_json::Value::from(form.stream).to_string();
        let open = &quoted[..quoted.len() - 1]; // the number may follow before the name ends
        let name = match form.service {
            Service::Firehose => "DeliveryStreamName",
            Service::Kinesis => "StreamName",
        };
        let mut body = format!("{{\"{name}\":{open}").into_bytes();
        let number_at = form.numbered.then(|| {
            body.push(b'-');
            body.extend_from_slice(&[b'0'; NUMBER_DIGITS]);
            body.len() - NUMBER_DIGITS
        });
        body.extend_from_slice(b"\",\"Records\":[");
        let sensors = u64::from(form.sensors);
        let (mut records, mut keys, mut payload_bytes) = (Vec::new(), Vec::new(), 0);
        for number in first..first + count {
            if number > first {
                body.push(b',');
            }
            let sensor = sensor_of(number, sensors);
            let record = reading(number, sensor, form.routes);
            payload_bytes += record.len() as u64;
            body.extend_from_slice(b"{\"Data\":\"");
            records.push(body.len());
            body.extend_from_slice(STANDARD.encode(record).as_bytes());
            if form.service == Service::Kinesis {
                body.extend_from_slice(b"\",\"PartitionKey\":\"sensor-");
                keys.push(body.len());
                body.extend_from_slice(format!("{sensor:0NUMBER_DIGITS$}").as_bytes());
            }
            body.extend_from_slice(b"\"}");
        }
        body.extend_from_slice(b"]}");
        Self { body, records, keys, sensors, number_at, written_s: -1, payload_bytes }
    }

    /// How many readings.
    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64
    }

    /// Sends the next bodies to the stream of this number.
    pub(super) fn address_to(&mut self, number: u64) {
        if let Some(at) = self.number_at {
            let digits = format!("{number:0NUMBER_DIGITS$}");
            self.body[at..at + NUMBER_DIGITS].copy_from_slice(digits.as_bytes());
        }
    }

    /// Numbers the readings anew, so that more sensors report than one body has. Few sensors are
    /// all in a body already.
    pub(super) fn renumber(&mut self, first: u64) {
        if self.sensors <= u64::from(SENSORS) {
            return;
        }
        for (index, &at) in self.records.iter().enumerate() {
            let sensor = sensor_of(first + index as u64, self.sensors);
            let digits = format!("{sensor:0NUMBER_DIGITS$}\"");
            let at = at + SENSOR_AT / 3 * 4;
            let written = &mut self.body[at..at + SENSOR_CHARS];
            let whole = STANDARD.encode_slice(&digits, written);
            debug_assert_eq!(whole, Ok(SENSOR_CHARS));
            if let Some(&key) = self.keys.get(index) {
                let digits = &digits.as_bytes()[..NUMBER_DIGITS];
                self.body[key..key + NUMBER_DIGITS].copy_from_slice(digits);
            }
        }
    }

    /// The body, with this time in every reading.
    pub(super) fn at(&mut self, now_s: i64) -> Bytes {
        if self.written_s != now_s {
            let time = STANDARD.encode(format!(":{now_s:010},"));
            if time.len() == TIME_CHARS {
                for &at in &self.records {
                    let at = at + TIME_AT / 3 * 4;
                    self.body[at..at + TIME_CHARS].copy_from_slice(time.as_bytes());
                }
                self.written_s = now_s;
            }
        }
        Bytes::copy_from_slice(&self.body)
    }
}

/// From 1, so that a number has five digits however many sensors there are.
fn sensor_of(number: u64, sensors: u64) -> u64 {
    number % sensors + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(stream: &str) -> Form<'_> {
        let (numbered, service) = (false, Service::Firehose);
        Form { stream, numbered, service, sensors: SENSORS, routes: None }
    }

    fn body_of(batch: &mut Batch, now_s: i64) -> serde_json::Value {
        serde_json::from_slice(&batch.at(now_s)).unwrap()
    }

    fn reading_of(record: &serde_json::Value) -> serde_json::Value {
        let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&data).unwrap()
    }

    #[test]
    fn every_record_is_a_reading_with_the_time_asked_for() {
        let mut batch = Batch::new(&form("s"), 7, 25);
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
        let mut batch = Batch::new(&form("a\"b\\"), 7, 1);
        let body: serde_json::Value = serde_json::from_slice(&batch.at(1_700_000_000)).unwrap();
        assert_eq!(body["DeliveryStreamName"], "a\"b\\");
    }

    #[test]
    fn numbered_streams_are_named_in_the_body() {
        let mut batch = Batch::new(&Form { numbered: true, ..form("s") }, 7, 2);
        batch.address_to(42);
        let body: serde_json::Value = serde_json::from_slice(&batch.at(1_700_000_000)).unwrap();
        assert_eq!(body["DeliveryStreamName"], "s-00042");
        assert_eq!(body["Records"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn readings_for_kinesis_are_keyed_by_their_sensor() {
        let form = Form { service: Service::Kinesis, sensors: 99_999, ..form("k") };
        let mut batch = Batch::new(&form, 0, 3);
        batch.renumber(99_997);
        let body = body_of(&mut batch, 1_700_000_000);
        assert_eq!(body["StreamName"], "k");
        let records = body["Records"].as_array().unwrap();
        let keys: Vec<_> = records.iter().map(|r| r["PartitionKey"].as_str().unwrap()).collect();
        assert_eq!(keys, ["sensor-99998", "sensor-99999", "sensor-00001"]);
        for (record, key) in records.iter().zip(keys) {
            assert_eq!(reading_of(record)["sensor_id"], key);
        }
    }

    #[test]
    fn readings_name_their_route_when_asked() {
        let mut batch = Batch::new(&Form { routes: Some(10), ..form("s") }, 8, 4);
        let body = body_of(&mut batch, 1_700_000_000);
        let routes: Vec<_> = body["Records"].as_array().unwrap().iter().map(reading_of).collect();
        let routes: Vec<_> = routes.iter().map(|r| r["route"].as_str().unwrap()).collect();
        assert_eq!(routes, ["route_8", "route_9", "route_0", "route_1"]);
    }
}
