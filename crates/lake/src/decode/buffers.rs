//! Growing column buffers that can be cut back to an earlier length.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::ArrowNativeType;

/// Which slots are null; costs nothing until the first null.
#[derive(Debug, Default)]
pub(super) struct Validity {
    bits: Option<BooleanBufferBuilder>,
}

impl Validity {
    #[inline]
    pub(super) fn push_valid(&mut self) {
        if let Some(bits) = &mut self.bits {
            bits.append(true);
        }
    }

    /// `len` is the number of slots before this one.
    pub(super) fn push_null(&mut self, len: usize) {
        let bits = self.bits.get_or_insert_with(|| {
            let mut bits = BooleanBufferBuilder::new(len + 64);
            bits.append_n(len, true);
            bits
        });
        bits.append(false);
    }

    pub(super) fn is_null(&self, at: usize) -> bool {
        self.bits.as_ref().is_some_and(|bits| at < bits.len() && !bits.get_bit(at))
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if let Some(bits) = &mut self.bits
            && bits.len() > len
        {
            bits.truncate(len);
        }
    }

    pub(super) fn take(&mut self) -> Option<NullBuffer> {
        self.bits.take().map(|mut bits| NullBuffer::new(bits.finish()))
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.bits.as_ref().map_or(0, |bits| bits.len() / 8)
    }
}

/// Values of one width.
#[derive(Debug)]
pub(super) struct Scalars<T> {
    pub(super) values: Vec<T>,
    pub(super) validity: Validity,
}

impl<T> Default for Scalars<T> {
    fn default() -> Self {
        Self { values: Vec::new(), validity: Validity::default() }
    }
}

impl<T: ArrowNativeType> Scalars<T> {
    #[inline]
    pub(super) fn push(&mut self, value: T) {
        self.values.push(value);
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.values.len());
        self.values.push(T::default());
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
    }

    pub(super) fn take(&mut self) -> (ScalarBuffer<T>, Option<NullBuffer>) {
        let capacity = self.values.len();
        let values = std::mem::replace(&mut self.values, Vec::with_capacity(capacity));
        (ScalarBuffer::from(values), self.validity.take())
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.values.len() * size_of::<T>() + self.validity.size_bytes()
    }
}

/// True or false.
#[derive(Debug)]
pub(super) struct Bits {
    pub(super) values: BooleanBufferBuilder,
    pub(super) validity: Validity,
}

impl Default for Bits {
    fn default() -> Self {
        Self { values: BooleanBufferBuilder::new(0), validity: Validity::default() }
    }
}

impl Bits {
    pub(super) fn push(&mut self, value: bool) {
        self.values.append(value);
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.values.len());
        self.values.append(false);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        if self.values.len() > len {
            self.values.truncate(len);
        }
        self.validity.truncate(len);
    }
}

/// Values of any length, back to back. Offsets are 31 bits, and a decoder's input is bounded below
/// that.
#[derive(Debug)]
pub(super) struct Bytes {
    pub(super) ends: Vec<i32>,
    pub(super) data: Vec<u8>,
    pub(super) validity: Validity,
}

impl Default for Bytes {
    fn default() -> Self {
        Self { ends: vec![0], data: Vec::new(), validity: Validity::default() }
    }
}

impl Bytes {
    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    #[inline]
    pub(super) fn push(&mut self, value: &[u8]) {
        self.data.extend_from_slice(value);
        self.close();
    }

    /// Ends a value whose bytes were appended to `data`.
    #[inline]
    pub(super) fn close(&mut self) {
        self.ends.push(offset(self.data.len()));
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.len());
        self.ends.push(offset(self.data.len()));
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.ends.truncate(len + 1);
        self.data.truncate(self.end());
        self.validity.truncate(len);
    }

    fn end(&self) -> usize {
        self.ends.last().map_or(0, |end| end.as_usize())
    }

    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.data[self.ends[index].as_usize()..self.ends[index + 1].as_usize()]
    }

    pub(super) fn take(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let data = Vec::with_capacity(self.data.len());
        let data = std::mem::replace(&mut self.data, data);
        (take_offsets(&mut self.ends), Buffer::from_vec(data), self.validity.take())
    }

    pub(super) fn size_bytes(&self) -> usize {
        self.data.len() + self.ends.len() * size_of::<i32>() + self.validity.size_bytes()
    }
}

/// Values of one length in bytes.
#[derive(Debug)]
pub(super) struct Blocks {
    pub(super) width: usize,
    pub(super) len: usize,
    pub(super) data: Vec<u8>,
    pub(super) validity: Validity,
}

impl Blocks {
    pub(super) fn new(width: usize) -> Self {
        Self { width, len: 0, data: Vec::new(), validity: Validity::default() }
    }

    /// `value` has this buffer's width.
    pub(super) fn push(&mut self, value: &[u8]) {
        debug_assert_eq!(value.len(), self.width);
        self.data.extend_from_slice(value);
        self.len += 1;
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.len);
        self.len += 1;
        self.data.resize(self.len * self.width, 0);
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.data.truncate(self.len * self.width);
        self.validity.truncate(len);
    }

    pub(super) fn take(&mut self) -> (Buffer, Option<NullBuffer>) {
        self.len = 0;
        (Buffer::from_vec(std::mem::take(&mut self.data)), self.validity.take())
    }
}

/// Ends of lists or maps within their children.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) ends: Vec<i32>,
    pub(super) validity: Validity,
}

impl Default for Ends {
    fn default() -> Self {
        Self { ends: vec![0], validity: Validity::default() }
    }
}

impl Ends {
    pub(super) fn len(&self) -> usize {
        self.ends.len() - 1
    }

    pub(super) fn last(&self) -> usize {
        self.ends.last().map_or(0, |end| end.as_usize())
    }

    pub(super) fn push(&mut self, end: usize) {
        self.ends.push(offset(end));
        self.validity.push_valid();
    }

    pub(super) fn push_null(&mut self) {
        self.validity.push_null(self.len());
        self.ends.push(offset(self.last()));
    }

    /// Answers how many children are left.
    pub(super) fn truncate(&mut self, len: usize) -> usize {
        self.ends.truncate(len + 1);
        self.validity.truncate(len);
        self.last()
    }

    pub(super) fn take(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        (take_offsets(&mut self.ends), self.validity.take())
    }
}

fn take_offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let mut fresh = Vec::with_capacity(ends.len());
    fresh.push(0);
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, fresh)))
}

/// A position within a column's children or bytes.
#[inline]
fn offset(position: usize) -> i32 {
    i32::try_from(position).expect("MAX_INPUT_BYTES keeps every offset below 31 bits")
}
