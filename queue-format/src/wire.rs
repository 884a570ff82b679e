//! Little-endian numbers and length-prefixed texts: the alphabet of records and sectors.

/// Why bytes are not what they should be. Carries the field, so that a message can name it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the field does.
    #[error("{0}: cut short")]
    Short(&'static str),
    /// The field has a value that means nothing.
    #[error("{0}: not a known value")]
    Value(&'static str),
    /// Another version of this program wrote it, in a form that this one does not know.
    #[error(
        "written in format {found}, and this program reads {known} only: bring this node to the version of the owner"
    )]
    Version {
        /// Its form.
        found: u16,
        /// The one that is known.
        known: u16,
    },
    /// Bytes are left after the last field.
    #[error("{0} bytes too many")]
    Trailing(usize),
}

/// Appends fields to a buffer.
#[derive(Debug)]
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }
    pub(crate) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    pub(crate) fn u128(&mut self, value: u128) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }
    /// A text of at most 65,535 bytes; a longer one is cut at a character boundary.
    pub(crate) fn text(&mut self, value: &str) {
        let mut end = value.len().min(usize::from(u16::MAX));
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let kept = value.get(..end).unwrap_or_default();
        self.u16(u16::try_from(kept.len()).unwrap_or(u16::MAX));
        self.0.extend_from_slice(kept.as_bytes());
    }
    /// A count of things that follow; more than `u32::MAX` never fits a frame.
    pub(crate) fn count(&mut self, value: usize) {
        self.u32(u32::try_from(value).unwrap_or(u32::MAX));
    }
}

/// Takes fields off the front of a slice.
#[derive(Debug)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.0.split_at_checked(len).ok_or(DecodeError::Short(field))?;
        self.0 = tail;
        Ok(head)
    }
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(N, field)?;
        bytes.try_into().map_err(|_| DecodeError::Short(field))
    }
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[b]| b)
    }
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_le_bytes)
    }
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_le_bytes)
    }
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_le_bytes)
    }
    pub(crate) fn u128(&mut self, field: &'static str) -> Result<u128, DecodeError> {
        self.array(field).map(u128::from_le_bytes)
    }
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let len = self.u16(field)?;
        std::str::from_utf8(self.bytes(usize::from(len), field)?).map_err(|_| DecodeError::Value(field))
    }
    /// A count whose things take at least `least` bytes each: refused before anything is allocated for it.
    pub(crate) fn count(&mut self, least: usize, field: &'static str) -> Result<usize, DecodeError> {
        let count = self.u32(field)? as usize;
        if count.saturating_mul(least) > self.0.len() { Err(DecodeError::Short(field)) } else { Ok(count) }
    }
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.0.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.0.len())) }
    }
}
