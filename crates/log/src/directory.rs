//! The segments of a log's directory, in the order of their chain.
//!
//! The newest segment names its predecessor, that one names its own, and so on. A segment that the
//! chain leaves out was superseded and holds nothing. A predecessor that is named but not there was
//! given back, if nothing older is there either; else it is missing, which is damage.

use crate::block::Seed;
use crate::device::{Device, DeviceFile, read_full};
use crate::options::OpenError;
use crate::scan::{Damage, Limit};
use crate::segment::{
    BadSegment, FileKind, SEGMENT_HEADER_BYTES, SegmentHeader, SegmentId, decode_segment_header,
    file_kind, free_name,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A segment of the chain.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: SegmentId,
    pub(crate) file: Arc<dyn DeviceFile>,
    /// The header and its CRC.
    pub(crate) header: Result<(SegmentHeader, u32), BadSegment>,
    pub(crate) limit: Limit,
}

/// One step of the chain, oldest first.
#[derive(Debug)]
pub(crate) enum Step {
    Segment(Link),
    Missing(Damage),
}

/// What the directory holds.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub(crate) steps: Vec<Step>,
    pub(crate) superseded: Vec<SegmentId>,
    pub(crate) free: Vec<u64>,
    pub(crate) temporary: Vec<String>,
    pub(crate) names: Vec<String>,
    pub(crate) newest: SegmentId,
}

type Loaded = (Arc<dyn DeviceFile>, Result<(SegmentHeader, u32), BadSegment>);

impl Directory {
    /// Names only; enough to tell whether a log is here.
    pub(crate) fn list(device: &dyn Device) -> Result<Self, OpenError> {
        let names = device.list().map_err(OpenError::io("listing"))?;
        let mut directory = Self { names, ..Self::default() };
        for name in &directory.names {
            match file_kind(name) {
                FileKind::Segment(id) => directory.newest = directory.newest.max(id),
                FileKind::Free(number) => directory.free.push(number),
                FileKind::Temporary => directory.temporary.push(name.clone()),
                FileKind::Other => {}
            }
        }
        directory.free.sort_unstable();
        Ok(directory)
    }

    /// Reads the headers of all segments and orders them.
    pub(crate) fn load(device: &dyn Device, seed: Seed) -> Result<Self, OpenError> {
        let mut directory = Self::list(device)?;
        let mut files: BTreeMap<SegmentId, Loaded> = BTreeMap::new();
        for name in &directory.names {
            let FileKind::Segment(id) = file_kind(name) else { continue };
            let file = device.open(name).map_err(OpenError::io(format!("opening of {name}")))?;
            let mut bytes = vec![0; SEGMENT_HEADER_BYTES as usize];
            let count = read_full(&*file, &mut bytes, 0)
                .map_err(OpenError::io(format!("reading of {name}")))?;
            let header = match decode_segment_header(&bytes[..count], seed) {
                Ok((header, _)) if header.id != id => Err(BadSegment::Shape),
                Err(BadSegment::Newer(version)) => {
                    let detail = BadSegment::Newer(version).to_string();
                    return Err(OpenError::Newer { what: format!("segment {id}"), detail });
                }
                header => header,
            };
            files.insert(id, (file, header));
        }
        directory.order(files);
        Ok(directory)
    }

    fn order(&mut self, mut files: BTreeMap<SegmentId, Loaded>) {
        let mut next = files.last_key_value().map(|(id, _)| *id);
        let mut limit = Limit::Open;
        while let Some(id) = next {
            let older = files.range(..id).next_back().map(|(id, _)| *id);
            let Some((file, header)) = files.remove(&id) else {
                if older.is_some() {
                    let detail = "the segment's file is missing".to_string();
                    let damage = Damage { segment: id, from: 0, to: 0, lanes: None, detail };
                    self.steps.push(Step::Missing(damage));
                }
                (next, limit) = (older, Limit::Open);
                continue;
            };
            self.steps.push(Step::Segment(Link { id, file, header, limit }));
            (next, limit) = match header {
                Ok((header, _)) if header.previous.0 == 0 => (None, Limit::Open),
                Ok((header, _)) => {
                    let limit =
                        Limit::Sealed { end: header.previous_end, last_crc: header.previous_crc };
                    (Some(header.previous), limit)
                }
                Err(_) => (older, Limit::Open),
            };
        }
        self.steps.reverse();
        self.superseded = files.into_keys().collect();
    }

    /// Spares of the right size, with what was superseded made into spares too.
    pub(crate) fn keep_spares(
        &self,
        device: &dyn Device,
        segment_bytes: u64,
    ) -> Result<Vec<u64>, OpenError> {
        let mut spares = Vec::new();
        let mut sync = false;
        let next = self.free.last().map_or(1, |last| last + 1);
        for (next, id) in (next..).zip(&self.superseded) {
            let failed = || OpenError::io(format!("renaming of superseded segment {id}"));
            device.rename(&id.file_name(), &free_name(next)).map_err(failed())?;
            spares.push(next);
            sync = true;
        }
        spares.extend(&self.free);
        let mut sound = Vec::new();
        for number in spares {
            let name = free_name(number);
            let size = device.open(&name).and_then(|file| file.size_bytes());
            if size.map_err(OpenError::io(format!("opening of {name}")))? == segment_bytes {
                sound.push(number);
            } else {
                device.remove(&name).map_err(OpenError::io(format!("removal of {name}")))?;
                sync = true;
            }
        }
        if sync {
            device.sync().map_err(OpenError::io("directory sync"))?;
        }
        Ok(sound)
    }
}
