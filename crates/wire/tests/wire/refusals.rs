//! One case for each check: a fixture with one field changed, sealed again, and what is said of it.

use tidings_wire::*;

use crate::{fixtures, fuzz};

/// Where a batch's first frame starts, its body, and a data frame's first record.
const FRAME: usize = HEADER_LEN;
const BODY: usize = FRAME + 8;
const RECORD: usize = BODY + 16;

/// The refusal of a fixture that has `with` written over it at `at`.
fn refusal(name: &str, at: usize, with: &[u8]) -> Option<Malformed> {
    let mut bytes = fixtures::read(name);
    assert_ne!(&bytes[at..at + with.len()], with, "{name} at {at}: the change changes nothing");
    bytes[at..at + with.len()].copy_from_slice(with);
    assert!(fuzz::reseal(&mut bytes));
    Packet::parse(&bytes).err()
}

fn check(cases: &[(&str, usize, &[u8], Malformed)]) {
    for (name, at, with, expected) in cases {
        assert_eq!(refusal(name, *at, with), Some(*expected), "{name} at {at}: {with:x?}");
    }
}

const ABOVE_SEQ_MAX: [u8; 8] = (SEQ_MAX + 1).to_le_bytes();
const HIGHEST: [u8; 8] = SEQ_MAX.to_le_bytes();

#[test]
fn headers() {
    check(&[
        ("packet_ready", 0, b"ta", Malformed::Alien),
        ("packet_ready", 2, &[0], Malformed::Version(0)),
        ("packet_ready", 2, &[2], Malformed::Version(2)),
        ("packet_ready", 3, &[0], Malformed::Kind(0)),
        ("packet_ready", 3, &[6], Malformed::Kind(6)),
        // The numbers of handshakes are 0, those of batches are not.
        ("packet_ready", 16, &[1], Malformed::Value),
        ("packet_batch_empty", 16, &[0; 8], Malformed::Value),
        ("packet_batch_empty", 16, &ABOVE_SEQ_MAX, Malformed::Value),
    ]);
    for (kind, len) in [(4, PACKET_MAX + 8), (1, HANDSHAKE_MAX + 8), (4, 16), (4, 0), (4, 25)] {
        let mut header = fixtures::read("packet_batch_empty");
        header[3] = kind;
        header[4..8].copy_from_slice(&(len as u32).to_le_bytes());
        assert_eq!(packet_len(&header), Err(Malformed::Length(len as u32)));
    }
}

#[test]
fn handshakes() {
    check(&[
        ("packet_hello", FRAME + 48, &[65], Malformed::Length(65)),
        ("packet_hello", FRAME + 48, &[0xff; 8], Malformed::Length(u32::MAX)),
        ("packet_hello", FRAME + 48, &[9], Malformed::Truncated),
        ("packet_hello", FRAME + 48, &[0], Malformed::Length(64)),
        ("packet_hello", FRAME + 56, &[0xff], Malformed::Value),
        ("packet_hello", FRAME + 63, &[1], Malformed::Value),
        ("packet_welcome", FRAME + 16 + 63, &[1], Malformed::Value),
        ("packet_close", FRAME + 4, &[0, 1], Malformed::Length(256)),
        ("packet_close", FRAME + 4, &[30], Malformed::Truncated),
        ("packet_close", FRAME + 8, &[0xc0], Malformed::Value),
        ("packet_close", FRAME + 8 + 15, &[1], Malformed::Value),
        // A greeting has more in it than a ready has.
        ("packet_hello", 3, &[3], Malformed::Length(64)),
        ("packet_ready", 3, &[1], Malformed::Truncated),
    ]);
}

#[test]
fn frames() {
    check(&[
        ("frame_ping", FRAME, &[0], Malformed::Kind(0)),
        ("frame_ping", FRAME, &[16], Malformed::Kind(16)),
        ("frame_ping", FRAME + 4, &[0], Malformed::Length(0)),
        ("frame_ping", FRAME + 4, &[12], Malformed::Length(12)),
        ("frame_ping", FRAME + 4, &[24], Malformed::Truncated),
        ("frame_ping", FRAME + 4, &[0xf8, 0xff, 0xff, 0xff], Malformed::Truncated),
        ("frame_ping", FRAME + 4, &[8], Malformed::Length(0)),
        ("frame_ping", FRAME + 1, &[1], Malformed::Value),
        ("frame_ping", FRAME + 2, &[1], Malformed::Count),
        ("frame_accept", FRAME + 1, &[2], Malformed::Value),
        ("frame_accept", BODY + 4, &[1], Malformed::Value),
        ("frame_cancel", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_cancel", BODY + 8, &ABOVE_SEQ_MAX, Malformed::Value),
        ("frame_base", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_finish", BODY + 8, &ABOVE_SEQ_MAX, Malformed::Value),
        ("frame_finished", FRAME + 1, &[1], Malformed::Value),
        ("frame_skip", BODY + 4, &[0; 4], Malformed::Value),
        ("frame_skip", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_skip", BODY + 8, &HIGHEST, Malformed::Value),
        ("frame_skip", BODY + 16, &(4 * RECORD_MAX as u64 + 1).to_le_bytes(), Malformed::Value),
        ("frame_lent", FRAME + 1, &[4], Malformed::Value),
        ("frame_lent", BODY + 4, &[0; 4], Malformed::Value),
        ("frame_lent", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_lent", BODY + 24, &[4, 0, 0], Malformed::Value),
        ("frame_lent", BODY + 24, &[0; 4], Malformed::Value),
        ("frame_lent", BODY + 24, &[0xf8, 0xff, 0xff, 0xff], Malformed::Value),
        ("frame_lent", BODY + 28, &[1], Malformed::Value),
        ("frame_refuse", FRAME + 1, &[1], Malformed::Value),
        ("frame_refuse", FRAME + 2, &[0, 1], Malformed::Length(256)),
        ("frame_refuse", FRAME + 2, &[14], Malformed::Value),
        ("frame_refuse", FRAME + 2, &[17], Malformed::Truncated),
        ("frame_refuse", BODY + 8 + 15, &[1], Malformed::Value),
        ("frame_verdict", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_verdict", BODY + 17, &[0xff], Malformed::Value),
        ("frame_open", FRAME + 1, &[2], Malformed::Value),
        ("frame_open", FRAME + 2, &[1], Malformed::Count),
        ("frame_open", BODY + 5, &[3], Malformed::Value),
        ("frame_open", BODY + 6, &[2], Malformed::Value),
        ("frame_open", BODY + 7, &[1], Malformed::Value),
        ("frame_open", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_open", BODY + 16, &[0, 1], Malformed::Length(256)),
        ("frame_open", BODY + 20, &[0xff; 4], Malformed::Length(u32::MAX)),
        ("frame_open", BODY + 20, &[17], Malformed::Truncated),
        ("frame_open", BODY + 20, &[8], Malformed::Length(48)),
    ]);
}

#[test]
fn progress_and_ack() {
    check(&[
        ("frame_progress", BODY + 4, &[1], Malformed::Value),
        ("frame_progress", BODY + 8, &ABOVE_SEQ_MAX, Malformed::Value),
        // Taken what was never received.
        ("frame_progress", BODY + 16, &[121], Malformed::Value),
        // Ranges that reach over the highest number.
        ("frame_progress", BODY + 24, &(SEQ_MAX - 9).to_le_bytes(), Malformed::Value),
        ("frame_progress", BODY + 48, &[0], Malformed::Value),
        ("frame_progress", BODY + 52, &[0], Malformed::Value),
        ("frame_progress", FRAME + 2, &[1], Malformed::Count),
        ("frame_progress", FRAME + 2, &[3], Malformed::Count),
        ("frame_progress", FRAME + 2, &[33], Malformed::Count),
        ("frame_ack", BODY, &[0], Malformed::Value),
        ("frame_ack", BODY, &[49], Malformed::Value),
        ("frame_ack", BODY + 8, &[0], Malformed::Value),
        ("frame_ack", BODY + 8, &[11], Malformed::Value),
        ("frame_ack", BODY + 20, &[0xff; 4], Malformed::Value),
    ]);
    // The last numbers that there are.
    assert_eq!(refusal("frame_progress", BODY + 24, &(SEQ_MAX - 10).to_le_bytes()), None);
    assert_eq!(refusal("frame_skip", BODY + 8, &(SEQ_MAX - 3).to_le_bytes()), None);
    assert_eq!(refusal("frame_progress", BODY + 32, &[0xff; 16]), None);
}

#[test]
fn data() {
    let over = (FRAGMENT_MAX as u32 + 1).to_le_bytes();
    check(&[
        ("frame_data_plain", FRAME + 1, &[1], Malformed::Value),
        ("frame_data_plain", FRAME + 2, &[0], Malformed::Value),
        ("frame_data_plain", FRAME + 2, &[2], Malformed::Count),
        ("frame_data_plain", FRAME + 2, &[4], Malformed::Truncated),
        ("frame_data_plain", BODY + 4, &[0], Malformed::Value),
        ("frame_data_plain", BODY + 8, &[0; 8], Malformed::Value),
        ("frame_data_plain", BODY + 8, &ABOVE_SEQ_MAX, Malformed::Value),
        ("frame_data_plain", BODY + 8, &(SEQ_MAX - 1).to_le_bytes(), Malformed::Value),
        ("frame_data_plain", RECORD, &over, Malformed::Length(FRAGMENT_MAX as u32 + 1)),
        ("frame_data_plain", RECORD, &[200], Malformed::Truncated),
        ("frame_data_plain", RECORD, &[4], Malformed::Value),
        ("frame_data_plain", RECORD + 8 + 7, &[1], Malformed::Value),
        // Four bytes of options that are not there: every flag has a meaning.
        ("frame_data_plain", RECORD + 3, &[0x10], Malformed::Value),
        // A fragment has to be alone, within its whole, and not empty.
        ("frame_data_plain", RECORD + 3, &[8], Malformed::Value),
        ("frame_data_fragment", RECORD, &[0], Malformed::Value),
        ("frame_data_fragment", RECORD + 8, &2_999_991u32.to_le_bytes(), Malformed::Value),
        ("frame_data_fragment", RECORD + 8, &[0xff; 4], Malformed::Value),
        ("frame_data_fragment", RECORD + 12, &[0xff; 4], Malformed::Value),
        ("frame_data_meta", RECORD + 8, &[0, 1], Malformed::Value),
        ("frame_data_meta", RECORD + 8, &[0, 0, 0, 0], Malformed::Value),
        ("frame_data_meta", RECORD + 10, &[1, 16], Malformed::Value),
        ("frame_data_meta", RECORD + 10, &[255], Malformed::Truncated),
        ("frame_data_meta", RECORD + 12, &[1], Malformed::Value),
        ("frame_data_meta", RECORD + 16 + 15, &[1], Malformed::Value),
        ("frame_data_meta", RECORD + 32 + 7, &[1], Malformed::Value),
    ]);
    assert_eq!(refusal("frame_data_plain", BODY + 8, &(SEQ_MAX - 2).to_le_bytes()), None);
}

/// What says of itself what it is, and is still refused.
#[test]
fn consistent_but_not_allowed() {
    // A record with meta that has neither key nor headers.
    let mut bytes = fixtures::read("packet_batch_empty");
    bytes.extend_from_slice(&[1, 0, 1, 0, 40, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
    bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert!(fuzz::reseal(&mut bytes));
    assert_eq!(Packet::parse(&bytes).err(), Some(Malformed::Value));

    // One range too many.
    let mut bytes = fixtures::read("frame_ack");
    bytes[FRAME + 2] = RANGES_MAX as u8 + 1;
    bytes[FRAME + 4..FRAME + 6].copy_from_slice(&(24 + 33 * 8u16).to_le_bytes());
    bytes[BODY + 7] = 1; // a largest number that is far enough up
    bytes.truncate(BODY + 16);
    bytes.extend(std::iter::repeat_n([1, 0, 0, 0], 2 * 33).flatten());
    assert!(fuzz::reseal(&mut bytes));
    assert_eq!(Packet::parse(&bytes).err(), Some(Malformed::Count));
}

/// Records as they are kept may be longer than what travels, but not without a bound; and bytes
/// that nobody has checked may be read at any place.
#[test]
fn records_out_of_a_packet() {
    let meta = RecordMeta {
        key: &[1; KEY_MAX],
        headers: &[2; HEADERS_MAX],
        reply: Some(Reply { stream: 1, status: 2, seq: 3 }),
        fragment: Some((0, MESSAGE_MAX as u32)),
        ..RecordMeta::default()
    };
    let (body, mut kept) = (vec![3; MESSAGE_MAX], Vec::new());
    meta.encode(&body, &mut kept);
    assert_eq!(kept.len(), RECORD_MAX);
    let (record, next) = Record::decode(&kept, 0).unwrap();
    assert!(record.meta == meta && record.body == body && next == kept.len());

    let over = MESSAGE_MAX as u32 + 1;
    kept[..3].copy_from_slice(&over.to_le_bytes()[..3]);
    assert_eq!(Record::decode(&kept, 0).err(), Some(Malformed::Length(over)));
    assert_eq!(Record::decode(&kept, usize::MAX).err(), Some(Malformed::Truncated));
}

/// A record after the first is a fragment: it would leave a hole in the run.
#[test]
fn fragment_in_company() {
    let mut records = Vec::new();
    RecordMeta::default().encode(b"plain", &mut records);
    let meta = RecordMeta { fragment: Some((0, 9)), ..RecordMeta::default() };
    meta.encode(b"part", &mut records);
    let data = Data { stream: 1, attempt: 1, base: 1, count: 2, records: &records, at: 0 };
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
    writer.push_data(&data);
    writer.finish(&[]);
    assert_eq!(Packet::parse(&bytes).err(), Some(Malformed::Count));
}

/// What goes through shared memory has no checksum; everywhere else that is refused.
#[test]
fn a_packet_without_a_checksum_is_for_memory_alone() {
    let mut records = Vec::new();
    RecordMeta::default().encode(b"plain", &mut records);
    let data = Data { stream: 1, attempt: 1, base: 1, count: 1, records: &records, at: 0 };
    let [summed, unsummed] = [true, false].map(|is_summed| {
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
        writer.push_data(&data);
        if is_summed {
            writer.finish(&[])
        } else {
            writer.finish_unsummed(&[])
        }
        bytes
    });
    assert_eq!(Packet::parse(&unsummed).err(), Some(Malformed::Checksum));
    assert!(Packet::parse_with(&unsummed, false).is_ok());
    assert_eq!((&summed[..12], &summed[16..]), (&unsummed[..12], &unsummed[16..]));
    assert_eq!(unsummed[12..16], [0; 4]);
}

/// The checksum can be left out of the checks, for the test that shows what it is for.
#[test]
fn checksum() {
    let mut bytes = fixtures::read("frame_ping");
    bytes[BODY] ^= 1;
    assert_eq!(Packet::parse(&bytes).err(), Some(Malformed::Checksum));
    assert!(Packet::parse_with(&bytes, false).is_ok());
}
