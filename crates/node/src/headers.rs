//! Headers of a message as bytes: length of the name, length of the value, both.

use tidings_wire::HEADERS_MAX;

/// Appends one; false if it does not fit any more.
pub(crate) fn push(out: &mut Vec<u8>, name: &str, value: &[u8]) -> bool {
    let is_bounded = name.len() <= usize::from(u8::MAX)
        && value.len() <= usize::from(u16::MAX)
        && out.len() + 3 + name.len() + value.len() <= HEADERS_MAX;
    if is_bounded {
        out.push(name.len() as u8);
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
    }
    is_bounded
}

/// The header with which a holding node says whose message it hands over.
const ORIGIN: &str = "$origin";

/// Appends whose message it is and how often it was delivered.
pub(crate) fn push_origin(out: &mut Vec<u8>, attempt: u32, from: &str) -> bool {
    let mut value = attempt.to_le_bytes().to_vec();
    value.extend_from_slice(from.as_bytes());
    push(out, ORIGIN, &value)
}

/// What `push_origin` has said.
pub(crate) fn origin(encoded: &[u8]) -> Option<(u32, &str)> {
    let (_, value) = iter(encoded).find(|(name, _)| *name == ORIGIN)?;
    let (attempt, from) = value.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*attempt), std::str::from_utf8(from).ok()?))
}

/// The header that says which message of which outbox this is.
const OUTBOX: &str = "$outbox";

/// Appends the outbox's number, the number of its destination, the message's, and the lowest one
/// that the outbox still keeps.
pub(crate) fn push_outbox(
    out: &mut Vec<u8>,
    node: u128,
    stream: u128,
    seq: u64,
    base: u64,
) -> bool {
    let mut value = node.to_le_bytes().to_vec();
    value.extend_from_slice(&stream.to_le_bytes());
    value.extend_from_slice(&seq.to_le_bytes());
    value.extend_from_slice(&base.to_le_bytes());
    push(out, OUTBOX, &value)
}

/// What `push_outbox` has said.
pub(crate) fn outbox(encoded: &[u8]) -> Option<(u128, u128, u64, u64)> {
    let (_, value) = iter(encoded).find(|(name, _)| *name == OUTBOX)?;
    let (node, rest) = value.split_first_chunk()?;
    let (stream, rest) = rest.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let base = rest.first_chunk()?;
    let (node, stream) = (u128::from_le_bytes(*node), u128::from_le_bytes(*stream));
    Some((node, stream, u64::from_le_bytes(*seq), u64::from_le_bytes(*base)))
}

/// Walks encoded headers. What a stranger has mangled ends the walk.
pub(crate) fn iter(mut encoded: &[u8]) -> impl Iterator<Item = (&str, &[u8])> {
    std::iter::from_fn(move || {
        let (lengths, rest) = encoded.split_first_chunk::<3>()?;
        let name_len = usize::from(lengths[0]);
        let value_len = usize::from(u16::from_le_bytes([lengths[1], lengths[2]]));
        let (name, rest) = rest.split_at_checked(name_len)?;
        let (value, rest) = rest.split_at_checked(value_len)?;
        encoded = rest;
        Some((std::str::from_utf8(name).ok()?, value))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_goes_in_comes_out_and_garbage_ends_the_walk() {
        let mut encoded = Vec::new();
        assert!(super::push(&mut encoded, "traceparent", b"00-abc"));
        assert!(super::push(&mut encoded, "", b""));
        let walked: Vec<_> = super::iter(&encoded).collect();
        assert_eq!(walked, [("traceparent", &b"00-abc"[..]), ("", &b""[..])]);
        encoded.push(200);
        assert_eq!(super::iter(&encoded).count(), 2);
        assert!(!super::push(&mut encoded, "x", &[0; 5000]));
    }
}
