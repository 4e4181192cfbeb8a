//! Time zones by IANA name or fixed offset, as Trino takes them.

use chrono::{DateTime, FixedOffset, NaiveDateTime, TimeZone, Utc};
use std::str::FromStr;

/// The instant at which a zone's clocks show this time. In a gap: the time after it.
pub(crate) fn from_local(local: NaiveDateTime, zone: &str) -> Option<DateTime<Utc>> {
    if let Ok(tz) = chrono_tz::Tz::from_str(zone) {
        let found = tz
            .from_local_datetime(&local)
            .earliest()
            .or_else(|| tz.from_local_datetime(&(local + chrono::Duration::hours(1))).earliest());
        return found.map(|t| t.with_timezone(&Utc));
    }
    let offset = FixedOffset::from_str(zone).ok()?;
    offset.from_local_datetime(&local).earliest().map(|t| t.with_timezone(&Utc))
}

/// What a zone's clocks show at an instant given in microseconds; without a zone, UTC's.
pub(crate) fn local(micros: i64, zone: Option<&str>) -> Result<NaiveDateTime, String> {
    let utc = DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| format!("timestamp {micros} is out of range"))?;
    match zone {
        None | Some("UTC" | "+00:00") => Ok(utc.naive_utc()),
        Some(zone) => crate::render::in_zone(utc, zone).map_err(|e| e.to_string()),
    }
}

/// The reverse of [`local`].
pub(crate) fn instant(local: NaiveDateTime, zone: Option<&str>) -> Result<i64, String> {
    match zone {
        None | Some("UTC" | "+00:00") => Ok(local.and_utc().timestamp_micros()),
        Some(zone) => from_local(local, zone)
            .map(|t| t.timestamp_micros())
            .ok_or_else(|| format!("'{zone}' is not a time zone")),
    }
}

/// Whether the text names a zone.
pub(crate) fn is_zone(zone: &str) -> bool {
    chrono_tz::Tz::from_str(zone).is_ok() || FixedOffset::from_str(zone).is_ok()
}
