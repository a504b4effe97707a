//! A caller that breaks the writer's rules is stopped at its own desk: the peer would refuse the
//! packet, and with it the connection.

use std::panic::{AssertUnwindSafe, catch_unwind};

use tidings_wire::*;

fn data(records: &[u8], count: u32) -> Data<'_> {
    Data { stream: 1, attempt: 1, base: 1, count, records, at: 0 }
}

fn panics(run: impl FnOnce(PacketWriter<'_>)) -> bool {
    let mut out = Vec::new();
    let writer = PacketWriter::begin(&mut out, Kind::Batch, 7, 1);
    catch_unwind(AssertUnwindSafe(|| run(writer))).is_err()
}

#[test]
fn tails() {
    let run = |announced: usize, given: usize| {
        panics(|mut writer| {
            writer.push_data_header(&data(&[], 2), &[0; 8], announced);
            writer.finish(&vec![0; given]);
        })
    };
    assert!(!run(8, 8) && !run(0, 0));
    assert!(run(8, 0) && run(8, 16) && run(0, 8));
}

#[test]
fn frames_behind_a_tail() {
    for kind in 0..3 {
        assert!(panics(|mut writer| {
            writer.push_data_header(&data(&[], 1), &[], 8);
            match kind {
                0 => writer.push(&Frame::Ping { stamp: 1 }),
                1 => writer.push_data(&data(&[0; 8], 1)),
                _ => writer.push_data_header(&data(&[], 1), &[], 8),
            }
        }));
    }
}

#[test]
fn records_that_no_frame_can_hold() {
    let many = vec![0; 8 * (RECORDS_MAX + 1)];
    assert!(!panics(|mut writer| writer.push_data(&data(&many[8..], RECORDS_MAX as u32))));
    assert!(panics(|mut writer| writer.push_data(&data(&many, RECORDS_MAX as u32 + 1))));
    assert!(panics(|mut writer| writer.push(&Frame::Data(data(&many, RECORDS_MAX as u32 + 1)))));
    assert!(panics(|mut writer| writer.push_data(&data(&many[..12], 1))));
}

#[test]
fn packets_over_the_bound() {
    let whole = vec![0; PACKET_MAX];
    let run = |len: usize| {
        panics(|mut writer| {
            writer.push_data(&data(&whole[..len], 1));
            writer.finish(&[]);
        })
    };
    let len_max = PACKET_MAX - HEADER_LEN - frame_len_of_data(0);
    assert!(!run(len_max));
    assert!(run(len_max + 8));
}

#[test]
fn records_over_the_bound() {
    let long = vec![0; MESSAGE_MAX + 1];
    let none = RecordMeta::default();
    let encode = |meta: RecordMeta<'_>, body: &[u8]| {
        catch_unwind(AssertUnwindSafe(|| meta.encode(body, &mut Vec::new()))).is_err()
    };
    assert!(encode(none, &long));
    assert!(encode(RecordMeta { key: &long[..=KEY_MAX], ..none }, b"x"));
    assert!(encode(RecordMeta { headers: &long[..=HEADERS_MAX], ..none }, b"x"));
}

#[test]
fn a_packet_taken_back_leaves_nothing() {
    let mut out = vec![1, 2, 3];
    let mut writer = PacketWriter::begin(&mut out, Kind::Batch, 7, 1);
    writer.push(&Frame::Ping { stamp: 1 });
    writer.abandon();
    assert_eq!(out, [1, 2, 3]);
}
