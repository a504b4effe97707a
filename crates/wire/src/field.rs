//! Fields: integers, texts and padding at an offset of bytes that a stranger sent. It knows no
//! frame and no packet.

use crate::{Malformed, padded};

#[inline]
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Result<u8, Malformed> {
    bytes.get(at).copied().ok_or(Malformed::Truncated)
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    array_at(bytes, at).map(u64::from_le_bytes)
}

#[inline]
pub(crate) fn u128_at(bytes: &[u8], at: usize) -> Result<u128, Malformed> {
    array_at(bytes, at).map(u128::from_le_bytes)
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let rest = bytes.get(at..).ok_or(Malformed::Truncated)?;
    rest.first_chunk().copied().ok_or(Malformed::Truncated)
}

/// The text of `len` bytes at `at`.
pub(crate) fn text_at(
    bytes: &[u8],
    at: usize,
    len: usize,
    len_max: usize,
) -> Result<&str, Malformed> {
    if len > len_max {
        return Err(Malformed::Length(u32::try_from(len).unwrap_or(u32::MAX)));
    }
    let raw = at.checked_add(len).and_then(|end| bytes.get(at..end)).ok_or(Malformed::Truncated)?;
    std::str::from_utf8(raw).map_err(|_| Malformed::Value)
}

/// Checks that `bytes` are content up to `end` and then only the zeros that [`pad`] writes: every
/// frame has one encoding, and nothing can be hidden in the gaps.
pub(crate) fn check_padding(bytes: &[u8], end: usize) -> Result<(), Malformed> {
    if bytes.len() != padded(end) {
        return Err(Malformed::Length(u32::try_from(bytes.len()).unwrap_or(u32::MAX)));
    }
    let gap = bytes.get(end..).ok_or(Malformed::Truncated)?;
    if gap.iter().all(|byte| *byte == 0) { Ok(()) } else { Err(Malformed::Value) }
}

/// Appends zeros until what begins at `start` is a multiple of 8 bytes long.
pub(crate) fn pad(out: &mut Vec<u8>, start: usize) {
    let end = start + padded(out.len() - start);
    out.resize(end, 0);
}

/// The longest prefix of at most `len_max` bytes that ends between characters.
pub(crate) fn truncated(text: &str, len_max: usize) -> &str {
    let mut end = text.len().min(len_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
