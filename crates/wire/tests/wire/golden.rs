//! Each fixture decodes to the value written here, and that value encodes to the fixture.

use std::collections::BTreeSet;

use tidings_wire::*;

use crate::{fixtures, fuzz};

const SESSION: u32 = 0x0a0b_0c0d;
const NODE: u128 = 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100;
const STAMP: u64 = 0x0123_4567_89ab_cdef;

fn handshakes() -> Vec<(&'static str, u32, Handshake)> {
    let north = Hello {
        nonce: 0x1111_1111_1111_1111,
        link: 0x22,
        node: NODE,
        incarnation: 3,
        packet_max: 65_536,
        window: 262_144,
        name: "north".to_owned(),
    };
    let south = Hello {
        nonce: 0x3333_3333_3333_3333,
        node: NODE + 1,
        incarnation: 4,
        packet_max: 2_097_152,
        window: 1_048_576,
        name: "süd".to_owned(),
        ..north.clone()
    };
    let welcome = Welcome { nonce_peer: north.nonce, state: 9, hello: south.clone() };
    let ready = Ready { nonce_peer: south.nonce, state: 10 };
    vec![
        ("packet_hello", 0, Handshake::Hello(north)),
        ("packet_welcome", SESSION, Handshake::Welcome(welcome)),
        ("packet_ready", SESSION, Handshake::Ready(ready)),
        ("packet_close", SESSION, Handshake::Close(Close::new(6, "shutting down"))),
    ]
}

/// Both directions of one batch that is one data frame: stream, attempt, base, and its records.
fn check_data(name: &str, place: (u32, u32, u64), expected: &[(RecordMeta<'_>, &[u8])]) {
    let mut records = Vec::new();
    expected.iter().for_each(|(meta, body)| meta.encode(body, &mut records));
    let (stream, attempt, base) = place;
    let (count, at) = (expected.len() as u32, HEADER_LEN + 24);
    let data = Data { stream, attempt, base, count, records: &records, at };
    check_batch(name, &[Frame::Data(data)]);

    let bytes = fixtures::read(name);
    let decoded: Vec<_> = Records::new(&bytes[at..]).map(|r| (r.meta, r.body)).collect();
    assert_eq!(decoded, expected, "{name}");
}

/// Both directions of one batch.
fn check_batch(name: &str, expected: &[Frame<'_>]) {
    let bytes = fixtures::read(name);
    let packet = Packet::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert_eq!(packet.header.session, SESSION, "{name}");
    assert_eq!(packet.header.number, 5, "{name}");
    assert_eq!(packet.handshake(), None, "{name}");
    assert_eq!(packet.frames().collect::<Vec<_>>(), expected, "{name}");

    let mut out = Vec::new();
    let mut writer = PacketWriter::begin(&mut out, Kind::Batch, SESSION, 5);
    expected.iter().for_each(|frame| writer.push(frame));
    writer.finish(&[]);
    assert_eq!(out, bytes, "{name}");
}

#[test]
fn handshakes_are_as_recorded() {
    for (name, session, expected) in handshakes() {
        let bytes = fixtures::read(name);
        let packet = Packet::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(packet.header.session, session, "{name}");
        assert_eq!(packet.handshake(), Some(expected.clone()), "{name}");
        assert_eq!(packet.frames().next(), None, "{name}");
        let mut out = Vec::new();
        expected.encode(session, &mut out);
        assert_eq!(out, bytes, "{name}");
    }
}

#[test]
fn plain_data_is_as_recorded() {
    let none = RecordMeta::default();
    let prompt = RecordMeta { ttl_ms: 1500, is_prompt: true, ..none };
    let awaited = RecordMeta { is_awaited: true, ..none };
    let bodies: [&[u8]; 3] = [b"hello", b"", b"12345678"];
    check_data("frame_data_plain", (3, 1, 100), &bodies.map(|body| (none, body)));
    check_data("frame_data_prompt", (3, 2, 101), &[(prompt, b"are you done?")]);
    check_data("frame_data_awaited", (3, 1, 105), &[(awaited, b"and now?")]);
}

#[test]
fn data_with_options_is_as_recorded() {
    let none = RecordMeta::default();
    let fragment = RecordMeta { fragment: Some((1_048_576, 3_000_000)), ..none };
    let answered = Reply { stream: 3, status: 0, seq: 101 };
    let reply = RecordMeta { reply: Some(answered), ..none };
    let meta = RecordMeta { key: b"order-17", headers: b"\x01a\x01b", ..none };
    let all = RecordMeta {
        ttl_ms: 1,
        is_prompt: true,
        is_awaited: true,
        fragment: Some((0, 2)),
        key: b"k",
        headers: b"hh",
        reply: Some(Reply { stream: 5, status: 404, seq: 6 }),
    };
    check_data("frame_data_fragment", (3, 1, 102), &[(fragment, b"the middle")]);
    check_data("frame_data_reply", (4, 1, 7), &[(reply, b"42")]);
    check_data("frame_data_meta", (3, 1, 103), &[(meta, b"order")]);
    check_data("frame_data_all", (3, 1, 104), &[(all, b"x")]);
}

#[test]
fn frames_along_a_stream_are_as_recorded() {
    let open = OpenFrame {
        stream: 3,
        purpose: 2,
        delivery: 2,
        order: 1,
        is_rendezvous: true,
        base: 100,
        channel: "readings".to_owned(),
        content: "postcard/Reading".to_owned(),
    };
    let skip = Frame::Skip { stream: 3, count: 4, base: 106, bytes: 4096 };
    let (place, len, is_prompt) = (0x0102_0304_0506_0708, 1 << 20, false);
    let lent = Lent { stream: 3, attempt: 1, seq: 110, place, len, is_prompt, is_awaited: true };
    check_batch("frame_lent", &[Frame::Lent(lent)]);
    check_batch("frame_open", &[Frame::Open(open)]);
    check_batch("frame_skip", &[skip]);
    check_batch("frame_cancel", &[Frame::Cancel { stream: 3, seq: 110 }]);
    check_batch("frame_base", &[Frame::Base { stream: 3, base: 100 }]);
    check_batch("frame_finish", &[Frame::Finish { stream: 3, last: 120 }]);
}

#[test]
fn frames_against_a_stream_are_as_recorded() {
    let mut pairs = Vec::new();
    Ranges::encode([(2, 3), (1, 4)].into_iter(), &mut pairs);
    let progress = Progress {
        stream: 3,
        received: 120,
        taken: 110,
        settled: 100,
        credit: 612,
        credit_bytes: 1 << 20,
        ranges: Ranges::of(&pairs),
    };
    assert_eq!(progress.ranges.iter().collect::<Vec<_>>(), [(2, 3), (1, 4)]);
    let refuse = Frame::Refuse { stream: 3, code: 2, text: "no such channel".to_owned() };
    let verdict = Frame::Verdict { stream: 3, code: 4, seq: 105, text: "späť".to_owned() };
    check_batch("frame_progress", &[Frame::Progress(progress)]);
    check_batch("frame_accept", &[Frame::Accept { stream: 3, inbox: None }]);
    let inbox = Some(InboxId { id: 0x0102_0304_0506_0708, life: 9 });
    check_batch("frame_accept_durable", &[Frame::Accept { stream: 3, inbox }]);
    check_batch("frame_refuse", &[refuse]);
    check_batch("frame_verdict", &[verdict]);
    check_batch("frame_finished", &[Frame::Finished { stream: 3 }]);
}

#[test]
fn link_frames_are_as_recorded() {
    let mut pairs = Vec::new();
    Ranges::encode([(5, 35)].into_iter(), &mut pairs);
    let ranges = Ranges::of(&pairs);
    let ack = Frame::Ack { largest: 50, first_len: 10, delay_us: 250, ranges };
    let mut one = Vec::new();
    RecordMeta::default().encode(b"a", &mut one);
    RecordMeta::default().encode(b"bc", &mut one);
    let run = Data { stream: 3, attempt: 1, base: 1, count: 2, records: &one, at: 24 + 16 + 24 };
    let many = [Frame::Ping { stamp: 1 }, Frame::Data(run), Frame::Base { stream: 3, base: 1 }];
    check_batch("frame_ack", &[ack]);
    check_batch("frame_ping", &[Frame::Ping { stamp: STAMP }]);
    check_batch("frame_pong", &[Frame::Pong { stamp: STAMP }]);
    check_batch("packet_batch_empty", &[]);
    check_batch("packet_batch_many", &many);
}

/// So that no fixture is added without its value, and no frame kind is without a fixture.
#[test]
fn every_fixture_is_canonical_and_every_kind_has_one() {
    let mut kinds = BTreeSet::new();
    for (name, bytes) in fixtures::all() {
        let packet = Packet::parse(&bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(fuzz::rewrite(&packet, &bytes), bytes, "{name}");
        kinds.insert(100 + bytes[3]);
        packet.frames().next().map(|_| kinds.insert(bytes[HEADER_LEN]));
    }
    assert!(kinds.into_iter().eq((1..=15).chain(101..=105)));
}

#[test]
fn another_version_is_refused_by_name() {
    let bytes = fixtures::read("packet_version_9");
    let refusal = Packet::parse(&bytes).unwrap_err();
    assert_eq!(refusal, Malformed::Version(9));
    assert_eq!(packet_len(&bytes), Err(Malformed::Version(9)));
    let text = refusal.to_string();
    assert!(text.contains("version 9") && text.contains(&VERSION.to_string()), "{text}");
}

#[test]
fn close_of_another_version_is_read() {
    let bytes = fixtures::read("packet_close_version_9");
    assert_eq!(packet_len(&bytes), Ok(Some(bytes.len())));
    let packet = Packet::parse(&bytes).unwrap();
    let text = "version 1 is too old".to_owned();
    let expected = Close { code: 6, versions: (7, 9), text };
    assert_eq!(packet.handshake(), Some(Handshake::Close(expected)));
}

#[test]
fn session_is_bound_to_both_nonces_and_never_0() {
    let (north, south) = (0x1111_1111_1111_1111, 0x3333_3333_3333_3333);
    assert_eq!(session_id(north, south), 0x23ac_872f);
    assert_ne!(session_id(south, north), 0x23ac_872f);
    // Two nonces whose checksum is 0, which stands for "no session".
    assert_eq!(session_id(1, 0x1aa3_2040), 1);
}
