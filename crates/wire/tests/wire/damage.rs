//! Packets that the path has damaged, and bytes that never were packets.

use proptest::collection::vec;
use proptest::prelude::*;
use tidings_wire::*;

use crate::fixtures::{self, Rng};
use crate::fuzz;

#[test]
fn every_flipped_bit_is_refused() {
    for (name, mut bytes) in fixtures::all() {
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(Packet::parse(&bytes).is_err(), "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Packet::parse(&bytes).is_ok(), "{name}");
    }
}

#[test]
fn every_truncation_is_refused_and_every_extension() {
    for (name, bytes) in fixtures::all() {
        for len in 0..bytes.len() {
            assert_eq!(Packet::parse(&bytes[..len]).err(), Some(Malformed::Truncated), "{name}");
            let expected = if len < HEADER_LEN { None } else { Some(bytes.len()) };
            assert_eq!(packet_len(&bytes[..len]), Ok(expected), "{name}");
        }
        for extra in [1, 8, 24] {
            let longer = [&bytes[..], &vec![0; extra]].concat();
            let expected = Some(Malformed::Length(bytes.len() as u32));
            assert_eq!(Packet::parse(&longer).err(), expected, "{name}");
        }
    }
}

/// A frame cut short inside a packet whose checksum is right: the sender is broken, not the path.
#[test]
fn every_truncation_under_a_right_checksum_is_refused_or_another_packet() {
    for (_, bytes) in fixtures::all() {
        for len in (HEADER_LEN..bytes.len()).step_by(8) {
            fuzz::wire_decode(&bytes[..len]);
        }
    }
}

#[test]
fn something_else_on_the_port_is_known_from_its_first_bytes() {
    for other in ["GET / HTTP/1.1\r\n", "\x16\x03\x01", "G", "t", "td", "ta"] {
        let is_ours = "td".starts_with(other);
        let expected = if is_ours { Ok(None) } else { Err(Malformed::Alien) };
        assert_eq!(packet_len(other.as_bytes()), expected, "{other}");
        let refusal = if is_ours { Malformed::Truncated } else { Malformed::Alien };
        assert_eq!(Packet::parse(other.as_bytes()).err(), Some(refusal), "{other}");
    }
    assert_eq!(packet_len(&[]), Ok(None));
}

/// Thousands of fixtures with a few bytes changed, sealed again so that they get past the checksum.
/// What is let through has to be its own encoding.
#[test]
fn mutated_packets_are_refused_or_canonical() {
    let mut rng = Rng(0x7469_6469_6e67_7301);
    // Numbers that sit on the edge of something.
    let edges = [0, 1, 7, 8, 9, 15, 16, 127, 128, 254, 255];
    for (_, bytes) in fixtures::all() {
        for _ in 0..3000 {
            let mut mutated = bytes.clone();
            for _ in 0..=rng.below(4) {
                let at = 3 + rng.below(mutated.len() - 3);
                mutated[at] = match rng.below(3) {
                    0 => rng.next() as u8,
                    1 => mutated[at] ^ (1 << rng.below(8)),
                    _ => edges[rng.below(edges.len())],
                };
            }
            if rng.below(4) == 0 {
                let (from, to) = (rng.below(mutated.len()), rng.below(mutated.len()));
                let piece = mutated[from.min(to)..from.max(to)].to_vec();
                mutated.extend_from_slice(&piece);
            }
            fuzz::wire_decode(&mutated);
            fuzz::handshake(&mutated[HEADER_LEN - 1..]);
            fuzz::stream_split(&mutated);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..300)) {
        fuzz::wire_decode(&bytes);
        fuzz::handshake(&bytes);
        fuzz::stream_split(&bytes);
    }

    /// As above, with a header in front that lets the frames be looked at.
    #[test]
    fn random_frames_never_panic(kind in 0..16u8, body in vec(prop_oneof![Just(0), any::<u8>()], 0..300)) {
        let mut bytes = Vec::new();
        PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1).finish(&[]);
        bytes.extend_from_slice(&[kind, 0, 0, 0]);
        let len = (8 + body.len()) & !7;
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        fuzz::wire_decode(&bytes);
    }
}
