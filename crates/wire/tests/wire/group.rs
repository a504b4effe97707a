//! Group packets: what was written is read back, damage is noticed, nothing makes the reader panic.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidings_wire::group::*;
use tidings_wire::{Malformed, SEQ_MAX};

fn number() -> impl Strategy<Value = u64> {
    1..=SEQ_MAX
}

fn numbers(len: usize) -> impl Strategy<Value = Vec<u64>> {
    vec(0..=SEQ_MAX, len)
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (any::<u32>(), 0..64u8).prop_map(|(round, rank)| Ballot { round, rank })
}

fn member() -> impl Strategy<Value = Member> {
    (any::<u128>(), any::<u64>(), "[a-zé]{0,32}", "[a-z:/]{0,255}").prop_map(
        |(node, incarnation, name, address)| Member {
            id: MemberId { node, incarnation },
            name,
            address,
        },
    )
}

fn view() -> impl Strategy<Value = View> {
    (any::<u64>(), 0..=SEQ_MAX, vec(member(), 0..6), any::<prop::sample::Index>()).prop_map(
        |(epoch, id, members, voters)| {
            let voters = voters.index(members.len() + 1);
            View { epoch, id, members, voters }
        },
    )
}

fn runs() -> impl Strategy<Value = Vec<Kept>> {
    let run = (0..64u8, 1..=u32::MAX, number());
    vec(run.prop_map(|(rank, count, first)| Kept { rank, count, first }), 0..6)
}

fn proposal() -> impl Strategy<Value = Proposal> {
    let cut =
        (vec((0..=SEQ_MAX, 0..64u8), 0..6), 0..=SEQ_MAX, runs()).prop_map(|(ends, base, runs)| {
            let (upto, holders) = ends.into_iter().unzip();
            Cut { upto, holders, base, runs }
        });
    (view(), cut).prop_map(|(next, cut)| Proposal { next, cut })
}

fn promise() -> impl Strategy<Value = Promise> {
    let accepted = option::of((ballot(), proposal()));
    let held = (0..6usize).prop_flat_map(|len| (numbers(len), numbers(len)));
    let rest = (0..=SEQ_MAX, runs(), any::<u64>(), any::<[bool; 2]>(), vec(member(), 0..4));
    (accepted, held, rest).prop_map(
        |(accepted, (held, placed), (base, runs, reach, flags, joiners))| {
            let [is_ready, is_leaving] = flags;
            Promise { accepted, held, placed, base, runs, reach, is_ready, is_leaving, joiners }
        },
    )
}

fn join() -> impl Strategy<Value = Join> {
    (member(), any::<[u8; 4]>()).prop_map(|(member, promises)| Join { member, promises })
}

fn ledger() -> impl Strategy<Value = Ledger> {
    let entry =
        (any::<u128>(), any::<[u64; 3]>()).prop_map(|(node, [incarnation, number, chain])| Entry {
            id: MemberId { node, incarnation },
            number,
            chain,
        });
    (any::<[u64; 3]>(), vec(entry, 0..5)).prop_map(|([position, order, past], entries)| Ledger {
        position,
        order,
        past,
        entries,
    })
}

/// Frames that own all they hold.
fn control() -> impl Strategy<Value = Frame<'static>> {
    let text = "[a-zé ]{0,120}";
    prop_oneof![
        ballot().prop_map(|ballot| Frame::Prepare { ballot }),
        (ballot(), promise())
            .prop_map(|(ballot, promise)| Frame::Promised { ballot, promise: Box::new(promise) }),
        ballot().prop_map(|ballot| Frame::Nack { ballot }),
        (ballot(), proposal())
            .prop_map(|(ballot, value)| Frame::Accept { ballot, proposal: Box::new(value) }),
        ballot().prop_map(|ballot| Frame::Accepted { ballot }),
        proposal().prop_map(|value| Frame::Decided { proposal: Box::new(value) }),
        join().prop_map(Frame::Join),
        (any::<u64>(), text).prop_map(|(incarnation, text)| Frame::Refuse { incarnation, text }),
        any::<u64>().prop_map(|incarnation| Frame::Excluded { incarnation }),
        (any::<u16>(), any::<u64>(), join()).prop_map(|(contact, asked, join)| Frame::Seek {
            contact,
            asked,
            join
        }),
        (any::<u16>(), any::<bool>(), any::<u64>(), any::<u64>(), join()).prop_map(
            |(contact, has_view, seeker, asked, join)| Frame::Seen {
                contact,
                has_view,
                seeker,
                asked,
                join
            }
        ),
        any::<u64>().prop_map(|offset| Frame::Fetch { offset }),
    ]
}

/// Records as they lie in a packet: mark, clock, body.
type OwnedRecord = (Mark, Vec<(u8, u64)>, Vec<u8>);

fn records() -> impl Strategy<Value = Vec<OwnedRecord>> {
    let clock = prop::collection::btree_map(0..64u8, any::<u64>(), 0..4)
        .prop_map(|clock| clock.into_iter().collect());
    let mark = prop::sample::select(vec![Mark::Message, Mark::Request, Mark::Piece]);
    vec((mark, clock, vec(any::<u8>(), 0..40)), 1..8)
}

fn header() -> impl Strategy<Value = Header> {
    any::<[u64; 3]>().prop_map(|[epoch, view, incarnation]| Header { epoch, view, incarnation })
}

fn write(header: Header, frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut packet = Writer::begin(&mut bytes, header);
    frames.iter().for_each(|frame| packet.push(frame));
    packet.finish();
    bytes
}

proptest! {
    #[test]
    fn control_frames_are_read_back(header in header(), frames in vec(control(), 0..5)) {
        let bytes = write(header, &frames);
        let packet = Packet::parse(&bytes).unwrap();
        prop_assert_eq!(packet.header, header);
        let read: Vec<Frame<'_>> = packet.frames().collect();
        prop_assert_eq!(&read, &frames);
        prop_assert_eq!(write(header, &read), bytes);
    }

    #[test]
    fn messages_and_lists_are_read_back(
        owned in records(),
        first in 1..=SEQ_MAX - 100,
        held in vec(0..=SEQ_MAX, 0..9),
        runs in runs(),
        (ledger, piece) in (ledger(), vec(any::<u8>(), 0..300)),
    ) {
        let mut raw = Vec::new();
        for (mark, clock, body) in &owned {
            push_record(*mark, clock, body, &mut raw);
        }
        let count = owned.len() as u32;
        let records = Records::check(&raw, owned.len()).unwrap();
        let counts: Vec<u8> = held.iter().flat_map(|one| one.to_le_bytes()).collect();
        let counts = Counts::from_bytes(&counts);
        let mut places = Vec::new();
        runs.iter().for_each(|run| Runs::write(*run, &mut places));
        let mut asked = Vec::new();
        let span = Span { rank: ORDER_RANK, first, last: first + 9 };
        Ranges::write(span, &mut asked);
        let acked = Acked {
            held: counts,
            clock: counts,
            order: first,
            ready: 1,
            stable: 2,
            stable_place: 1,
            is_question: true,
        };
        let mut frames = vec![
            Frame::Data { rank: 3, first, count, records },
            Frame::Loose { first, count, records },
            Frame::Ack(acked),
            Frame::Ask(Ranges::from_bytes(&asked)),
            Frame::Heartbeat { stamp: 1, reach: 2, gone: 3, is_ready: true, is_leaving: false, echo: counts },
            Frame::Piece {
                total: 1000, crc: 7, offset: 600, ledger: Box::new(ledger), bytes: &piece,
            },
        ];
        if !runs.is_empty() {
            frames.push(Frame::Order { first, runs: Runs::from_bytes(&places) });
        }
        let bytes = write(Header::default(), &frames);
        let packet = Packet::parse(&bytes).unwrap();
        let read: Vec<Frame<'_>> = packet.frames().collect();
        prop_assert_eq!(&read, &frames);
        let Frame::Data { records, .. } = &read[0] else { panic!("data comes first") };
        for (record, (mark, clock, body)) in records.zip(&owned) {
            prop_assert_eq!(record.mark, *mark);
            prop_assert_eq!(record.clock.entries().collect::<Vec<_>>(), clock.clone());
            prop_assert_eq!(record.body, body.as_slice());
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(frame in control(), at in any::<prop::sample::Index>(), bit in 0..8) {
        let mut bytes = write(Header::default(), &[frame]);
        let at = at.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        prop_assert!(Packet::parse(&bytes).is_err());
    }

    /// Whatever stands behind a right checksum: no panic, and what is let through has one encoding.
    #[test]
    fn any_frame_bytes_are_refused_or_written_again_the_same(
        kind in 0..22u8,
        body in vec(any::<u8>(), 0..200),
        wild_len in option::of(any::<u32>()),
    ) {
        let mut bytes = write(Header::default(), &[]);
        bytes.push(kind);
        bytes.extend_from_slice(&wild_len.unwrap_or(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        let crc = crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        if let Ok(packet) = Packet::parse(&bytes) {
            let frames: Vec<Frame<'_>> = packet.frames().collect();
            prop_assert_eq!(write(packet.header, &frames), bytes);
        }
    }
}

#[test]
fn a_strange_packet_says_why_it_is_refused() {
    let bytes = write(Header::default(), &[]);
    assert_eq!(Packet::parse(&bytes[..20]).err(), Some(Malformed::Truncated));
    let mut alien = bytes.clone();
    alien[4] = b'x';
    assert_eq!(Packet::parse(&alien).err(), Some(Malformed::Alien));
    let mut later = bytes.clone();
    later[6] = 9;
    assert_eq!(Packet::parse(&later).err(), Some(Malformed::Version(9)));
    let mut cut = write(Header::default(), &[Frame::Fetch { offset: 3 }]);
    cut.truncate(cut.len() - 1);
    assert_eq!(Packet::parse(&cut).err(), Some(Malformed::Checksum));
    let huge = vec![0; GROUP_PACKET_MAX + 1];
    assert!(matches!(Packet::parse(&huge), Err(Malformed::Length(_))));
}

/// A count in a frame of a few bytes cannot make the reader allocate for what is not there.
#[test]
fn a_count_is_bounded_by_what_follows_it() {
    for kind in [3u8, 5, 8, 10, 12] {
        let mut bytes = write(Header::default(), &[]);
        let body = [0xff; 24];
        bytes.push(kind);
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&body);
        let crc = crc32c(&bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        let allocated = allocation_counter::measure(|| assert!(Packet::parse(&bytes).is_err()));
        assert!(allocated.bytes_total < 1024, "kind {kind}: {}", allocated.bytes_total);
    }
}
