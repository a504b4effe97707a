//! What was written is read back, whatever it is and however it arrives.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidings_wire::*;

use crate::fuzz;

/// A frame that owns what it holds.
#[derive(Clone, Debug)]
enum Owned {
    Small(Frame<'static>),
    Data { stream: u32, attempt: u32, base: u64, records: Vec<OwnedRecord> },
    Progress { stream: u32, numbers: [u64; 5], pairs: Vec<(u32, u32)> },
    Ack { above: u64, first_len: u32, delay_us: u32, pairs: Vec<(u32, u32)> },
}

#[derive(Clone, Debug)]
struct OwnedRecord {
    ttl_ms: u32,
    is_prompt: bool,
    is_awaited: bool,
    fragment: Option<(u32, u32)>,
    key: Vec<u8>,
    headers: Vec<u8>,
    reply: Option<Reply>,
    body: Vec<u8>,
}

impl OwnedRecord {
    fn meta(&self) -> RecordMeta<'_> {
        RecordMeta {
            ttl_ms: self.ttl_ms,
            is_prompt: self.is_prompt,
            is_awaited: self.is_awaited,
            fragment: self.fragment,
            key: &self.key,
            headers: &self.headers,
            reply: self.reply,
        }
    }
}

impl Owned {
    /// Encodes what a frame borrows.
    fn encode_lent(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Small(_) => {}
            Self::Data { records, .. } => {
                records.iter().for_each(|record| record.meta().encode(&record.body, &mut out));
            }
            Self::Progress { pairs, .. } | Self::Ack { pairs, .. } => {
                Ranges::encode(pairs.iter().copied(), &mut out);
            }
        }
        out
    }

    fn frame<'a>(&self, lent: &'a [u8], at: usize) -> Frame<'a> {
        match self {
            Self::Small(frame) => frame.clone(),
            Self::Data { stream, attempt, base, records } => Frame::Data(Data {
                stream: *stream,
                attempt: *attempt,
                base: *base,
                count: records.len() as u32,
                records: lent,
                at,
            }),
            Self::Progress { stream, numbers, .. } => Frame::Progress(Progress {
                stream: *stream,
                received: numbers[0].max(numbers[1]),
                taken: numbers[0].min(numbers[1]),
                settled: numbers[2],
                credit: numbers[3],
                credit_bytes: numbers[4],
                ranges: Ranges::of(lent),
            }),
            Self::Ack { above, first_len, delay_us, pairs } => {
                let span: u64 =
                    pairs.iter().map(|(gap, len)| u64::from(*gap) + u64::from(*len)).sum();
                Frame::Ack {
                    largest: above + u64::from(*first_len) + span,
                    first_len: *first_len,
                    delay_us: *delay_us,
                    ranges: Ranges::of(lent),
                }
            }
        }
    }
}

/// A number with room above it for whatever is counted on from it.
fn seq() -> impl Strategy<Value = u64> {
    prop_oneof![1..100u64, 1..=SEQ_MAX / 2]
}

fn text(len_max: usize) -> impl Strategy<Value = String> {
    let chars = prop_oneof![Just('a'), Just('ü'), Just('語'), any::<char>()];
    vec(chars, 0..=len_max / 4).prop_map(|chars| chars.into_iter().collect())
}

fn pairs() -> impl Strategy<Value = Vec<(u32, u32)>> {
    vec((1..=u32::MAX, 1..=u32::MAX), 0..=RANGES_MAX)
}

fn reply() -> impl Strategy<Value = Reply> {
    any::<(u32, u32, u64)>().prop_map(|(stream, status, seq)| Reply { stream, status, seq })
}

fn record() -> impl Strategy<Value = OwnedRecord> {
    let key = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..=KEY_MAX)];
    let headers = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 0..=40)];
    let outside = (any::<u32>(), any::<bool>(), any::<bool>(), option::of(reply()));
    (outside, key, headers, vec(any::<u8>(), 0..40)).prop_map(|(outside, key, headers, body)| {
        let (ttl_ms, is_prompt, is_awaited, reply) = outside;
        OwnedRecord { ttl_ms, is_prompt, is_awaited, fragment: None, key, headers, reply, body }
    })
}

/// One record that is part of a longer message.
fn fragment() -> impl Strategy<Value = OwnedRecord> {
    let body = vec(any::<u8>(), 1..40);
    (record(), body, 0..1_000_000u32, 0..1_000_000u32).prop_map(
        |(mut record, body, before, after)| {
            record.fragment = Some((before, before + body.len() as u32 + after));
            record.body = body;
            record
        },
    )
}

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    prop_oneof![4 => vec(record(), 1..20), 1 => fragment().prop_map(|record| vec![record])]
}

fn open() -> impl Strategy<Value = Frame<'static>> {
    let fields = (any::<u32>(), any::<u8>(), 0..=2u8, 0..=1u8, any::<bool>(), seq());
    (fields, text(TEXT_MAX), text(TEXT_MAX)).prop_map(|(fields, channel, content)| {
        let (stream, purpose, delivery, order, is_rendezvous, base) = fields;
        Frame::Open(OpenFrame {
            stream,
            purpose,
            delivery,
            order,
            is_rendezvous,
            base,
            channel,
            content,
        })
    })
}

fn small() -> impl Strategy<Value = Frame<'static>> {
    let stream = any::<u32>;
    prop_oneof![
        open(),
        (stream(), option::of((1..=u64::MAX, any::<u64>()))).prop_map(|(stream, inbox)| {
            Frame::Accept { stream, inbox: inbox.map(|(id, life)| InboxId { id, life }) }
        }),
        (stream(), any::<u32>(), text(TEXT_MAX)).prop_map(|(stream, code, text)| Frame::Refuse {
            stream,
            code,
            text
        }),
        (stream(), any::<u32>(), seq(), text(TEXT_MAX))
            .prop_map(|(stream, code, seq, text)| { Frame::Verdict { stream, code, seq, text } }),
        (stream(), 1..=u32::MAX, seq(), 0..=RECORD_MAX as u64)
            .prop_map(|(stream, count, base, bytes)| Frame::Skip { stream, count, base, bytes }),
        (
            stream(),
            1..=u32::MAX,
            seq(),
            any::<u64>(),
            1..=RECORD_MAX as u32 / 8,
            any::<[bool; 2]>()
        )
            .prop_map(|(stream, attempt, seq, place, words, [is_prompt, is_awaited])| {
                let len = 8 * words;
                Frame::Lent(Lent { stream, attempt, seq, place, len, is_prompt, is_awaited })
            }),
        (stream(), seq()).prop_map(|(stream, seq)| Frame::Cancel { stream, seq }),
        (stream(), seq()).prop_map(|(stream, base)| Frame::Base { stream, base }),
        (stream(), 0..=SEQ_MAX).prop_map(|(stream, last)| Frame::Finish { stream, last }),
        stream().prop_map(|stream| Frame::Finished { stream }),
        any::<u64>().prop_map(|stamp| Frame::Ping { stamp }),
        any::<u64>().prop_map(|stamp| Frame::Pong { stamp }),
    ]
}

fn frame() -> impl Strategy<Value = Owned> {
    let numbers = (seq(), seq(), seq(), any::<u64>(), any::<u64>());
    prop_oneof![
        3 => small().prop_map(Owned::Small),
        2 => (any::<u32>(), 1..=u32::MAX, seq(), records()).prop_map(
            |(stream, attempt, base, records)| Owned::Data { stream, attempt, base, records }
        ),
        1 => (any::<u32>(), numbers, pairs()).prop_map(|(stream, (a, b, c, d, e), pairs)| {
            Owned::Progress { stream, numbers: [a, b, c, d, e], pairs }
        }),
        1 => (0..=SEQ_MAX / 2, 1..=u32::MAX, any::<u32>(), pairs()).prop_map(
            |(above, first_len, delay_us, pairs)| Owned::Ack { above, first_len, delay_us, pairs }
        ),
    ]
}

fn hello() -> impl Strategy<Value = Hello> {
    (any::<[u64; 3]>(), any::<u128>(), any::<[u32; 2]>(), text(NAME_MAX)).prop_map(
        |([nonce, link, incarnation], node, [packet_max, window], name)| Hello {
            nonce,
            link,
            node,
            incarnation,
            packet_max,
            window,
            name,
        },
    )
}

fn handshake() -> impl Strategy<Value = Handshake> {
    prop_oneof![
        hello().prop_map(Handshake::Hello),
        (any::<u64>(), any::<u64>(), hello()).prop_map(|(nonce_peer, state, hello)| {
            Handshake::Welcome(Welcome { nonce_peer, state, hello })
        }),
        any::<(u64, u64)>()
            .prop_map(|(nonce_peer, state)| Handshake::Ready(Ready { nonce_peer, state })),
        (any::<u16>(), any::<(u8, u8)>(), text(TEXT_MAX)).prop_map(|(code, versions, text)| {
            Handshake::Close(Close { code, versions, text })
        }),
    ]
}

/// A batch of these frames, written behind `before` bytes of something else.
fn write(frames: &[Owned], session: u32, number: u64, before: usize) -> Vec<u8> {
    let mut out = vec![0xee; before];
    let mut writer = PacketWriter::begin(&mut out, Kind::Batch, session, number);
    assert!(writer.is_empty());
    for frame in frames {
        writer.push(&frame.frame(&frame.encode_lent(), 0));
    }
    assert_eq!(writer.is_empty(), frames.is_empty());
    let len = writer.len();
    writer.finish(&[]);
    assert_eq!(out.len(), before + len);
    assert!(out.drain(..before).all(|byte| byte == 0xee));
    out
}

proptest! {
    #[test]
    fn batches(
        frames in vec(frame(), 0..8),
        session in any::<u32>(),
        number in 1..=SEQ_MAX,
        before in 0..16usize,
    ) {
        let bytes = write(&frames, session, number, before);
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.header.session, session);
        prop_assert_eq!(packet.header.number, number);
        prop_assert_eq!(packet.header.len, bytes.len());
        prop_assert_eq!(packet.handshake(), None);
        let mut decoded = packet.frames();
        for expected in &frames {
            let found = decoded.next().unwrap();
            let at = if let Frame::Data(data) = &found { data.at } else { 0 };
            let lent = expected.encode_lent();
            prop_assert_eq!(&found, &expected.frame(&lent, at));
            if let (Frame::Data(data), Owned::Data { records, .. }) = (&found, expected) {
                let decoded: Vec<_> = Records::new(data.records).map(|r| (r.meta, r.body)).collect();
                let expected: Vec<_> = records.iter().map(|r| (r.meta(), &r.body[..])).collect();
                prop_assert_eq!(decoded, expected);
            }
        }
        prop_assert_eq!(decoded.next(), None);
        prop_assert_eq!(fuzz::rewrite(&packet, &bytes), bytes);
    }

    #[test]
    fn handshakes(handshake in handshake(), session in any::<u32>(), before in 0..16usize) {
        let mut bytes = vec![0xee; before];
        handshake.encode(session, &mut bytes);
        bytes.drain(..before);
        prop_assert!(bytes.len() <= HANDSHAKE_MAX);
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.header.session, session);
        prop_assert_eq!(packet.header.number, 0);
        prop_assert_eq!(packet.handshake(), Some(handshake));
        prop_assert_eq!(packet.frames().next(), None);
    }

    /// Sent from two places or copied into one: the same packet.
    #[test]
    fn a_tail_is_as_good_as_a_copy(records in vec(record(), 1..20), split in any::<prop::sample::Index>()) {
        let frame = Owned::Data { stream: 3, attempt: 1, base: 9, records };
        let lent = frame.encode_lent();
        let Frame::Data(data) = frame.frame(&lent, 0) else { unreachable!() };
        let (prefix, tail) = lent.split_at(8 * split.index(lent.len() / 8 + 1));
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
        writer.push(&Frame::Ping { stamp: 4 });
        let before = writer.len();
        writer.push_data_header(&data, prefix, tail.len());
        prop_assert_eq!(writer.len() + tail.len(), before + frame_len_of_data(lent.len()));
        writer.finish(tail);
        bytes.extend_from_slice(tail);
        prop_assert_eq!(bytes, write(&[Owned::Small(Frame::Ping { stamp: 4 }), frame], 7, 1, 0));
    }

    /// A stream gives the packets that were put in, in whatever pieces it arrives.
    #[test]
    fn streams(
        batches in vec(vec(frame(), 0..3), 0..5),
        handshake in handshake(),
        sizes in vec(0..80u8, 0..60),
    ) {
        let mut stream = Vec::new();
        handshake.encode(0, &mut stream);
        let mut expected = vec![(0, stream.len())];
        for (number, frames) in (1..).zip(&batches) {
            let bytes = write(frames, 7, number, 0);
            expected.push((stream.len(), bytes.len()));
            stream.extend_from_slice(&bytes);
        }
        prop_assert_eq!(fuzz::split(&stream, &sizes), (expected, None));
    }

    /// Texts and ranges over their bound are cut, never sent for the peer to refuse.
    #[test]
    fn too_much_is_cut(text in text(4 * TEXT_MAX), pairs in vec((1..9u32, 1..9u32), 0..80)) {
        let mut lent = Vec::new();
        pairs.iter().for_each(|pair| Ranges::encode([*pair].into_iter(), &mut lent));
        let refuse = Frame::Refuse { stream: 1, code: 1, text: text.clone() };
        let ranges = Ranges::of(&lent);
        let ack = Frame::Ack { largest: 1 << 40, first_len: 1, delay_us: 0, ranges };
        let mut bytes = Vec::new();
        let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, 1);
        writer.push(&refuse);
        writer.push(&ack);
        writer.finish(&[]);
        let frames: Vec<_> = Packet::parse(&bytes).unwrap().frames().collect();
        let Frame::Refuse { text: cut, .. } = &frames[0] else { unreachable!() };
        prop_assert!(text.starts_with(cut.as_str()));
        prop_assert!(cut.len() == text.len() || cut.len() + 4 > TEXT_MAX);
        let Frame::Ack { ranges, .. } = &frames[1] else { unreachable!() };
        prop_assert!(ranges.iter().eq(pairs.into_iter().take(RANGES_MAX)));
    }
}

#[test]
fn the_longest_packet_and_the_most_records() {
    // 1 MiB in one fragment and, beside it, as many empty records as a frame can count.
    let mut whole = Vec::new();
    let meta = RecordMeta { fragment: Some((0, MESSAGE_MAX as u32)), ..RecordMeta::default() };
    meta.encode(&vec![7; FRAGMENT_MAX], &mut whole);
    let many = vec![0; 8 * RECORDS_MAX];
    let one = Data { stream: 1, attempt: 1, base: SEQ_MAX, count: 1, records: &whole, at: 0 };
    let base = SEQ_MAX - RECORDS_MAX as u64 + 1;
    let most = Data { base, count: RECORDS_MAX as u32, records: &many, ..one };
    let mut bytes = Vec::new();
    let mut writer = PacketWriter::begin(&mut bytes, Kind::Batch, 7, SEQ_MAX);
    writer.push_data(&one);
    writer.push_data(&most);
    while writer.len() < PACKET_MAX {
        writer.push(&Frame::Finished { stream: 0 });
    }
    writer.finish(&[]);
    assert_eq!(bytes.len(), PACKET_MAX);
    let packet = Packet::parse(&bytes).unwrap();
    assert_eq!(fuzz::rewrite(&packet, &bytes), bytes);
}
