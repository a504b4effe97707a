//! Reading allocates nothing but texts, each within its bound, whatever the bytes are.

use std::hint::black_box;

use allocation_counter::{AllocationInfo, measure};
use tidings_wire::*;

use crate::fixtures::{self, Rng};
use crate::fuzz;

fn count(run: impl FnOnce()) -> u64 {
    let AllocationInfo { count_total, .. } = measure(run);
    count_total
}

fn parse(bytes: &[u8]) {
    let _ = black_box(Packet::parse(bytes));
}

/// So that the zeros below mean something.
#[test]
fn the_counter_counts() {
    assert_eq!(count(|| drop(black_box(vec![1u8; 100]))), 1);
}

#[test]
fn parse_allocates_nothing() {
    let mut rng = Rng(0x7469_6469_6e67_7302);
    for (name, bytes) in fixtures::all() {
        assert_eq!(count(|| parse(&bytes)), 0, "{name}");
        for _ in 0..500 {
            let mut mutated = bytes.clone();
            let at = rng.below(mutated.len());
            mutated[at] = rng.next() as u8;
            fuzz::reseal(&mut mutated);
            assert_eq!(count(|| parse(&mutated)), 0, "{name} {mutated:?}");
        }
    }
}

#[test]
fn parse_allocates_nothing_for_a_packet_full_of_texts() {
    let text = "x".repeat(TEXT_MAX);
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
    while writer.len() < PACKET_MAX - 1024 {
        writer.push(&Frame::Refuse { stream: 1, code: 1, text: text.clone() });
    }
    writer.finish(&[]);
    assert_eq!(count(|| parse(&bytes)), 0);
}

#[test]
fn only_texts_are_copied() {
    for (name, bytes) in fixtures::all() {
        let packet = Packet::parse(&bytes).unwrap();
        let info = measure(|| drop(black_box(packet.handshake())));
        let has_text = ["hello", "welcome", "close"].iter().any(|kind| name.contains(kind));
        assert_eq!(info.count_total, u64::from(has_text), "{name}");
        assert!(info.bytes_max <= TEXT_MAX as u64, "{name}");

        let info = measure(|| packet.frames().for_each(|frame| drop(black_box(frame))));
        let texts = match name.as_str() {
            "frame_open" => 2,
            "frame_refuse" | "frame_verdict" => 1,
            _ => 0,
        };
        assert_eq!(info.count_total, texts, "{name}");
        assert!(info.bytes_max <= 2 * TEXT_MAX as u64, "{name}");
    }
}

#[test]
fn data_path_allocates_nothing_after_warm_up() {
    let (mut records, mut bytes) = (Vec::new(), Vec::new());
    let mut run = || {
        records.clear();
        bytes.clear();
        for body in [&b"one"[..], b"", b"three of them"] {
            RecordMeta::default().encode(body, &mut records);
        }
        let data = Data { stream: 1, attempt: 1, base: 1, count: 3, records: &records, at: 0 };
        let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
        writer.push_data(&data);
        writer.push(&Frame::Base { stream: 1, base: 1 });
        writer.finish(&[]);
        for frame in Packet::parse(&bytes).unwrap().frames() {
            if let Frame::Data(data) = frame {
                Records::new(data.records)
                    .for_each(|record| assert!(black_box(record).body.len() < 14));
            }
        }
    };
    run();
    assert_eq!(count(run), 0);
}
