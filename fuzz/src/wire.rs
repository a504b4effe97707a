//! What must hold of `tidings-wire` on any bytes. Also compiled into the crate's own tests, which
//! replay the corpora and lend these functions to their properties.

use tidings_wire::{
    Frame, HEADER_LEN, Handshake, Kind, Malformed, Packet, PacketWriter, Record, Records,
    packet_len,
};

/// Target: whole packets. Tried as they are and, since a random checksum never matches, once more
/// with length and checksum made right.
pub fn wire_decode(bytes: &[u8]) {
    walk_records(bytes);
    check_packet(bytes);
    let mut sealed = bytes.to_vec();
    if reseal(&mut sealed) {
        check_packet(&sealed);
    }
}

/// Target: the body of a packet that is not a batch; the first byte chooses the kind.
pub fn handshake(bytes: &[u8]) {
    let Some((kind, body)) = bytes.split_first() else {
        return;
    };
    let kind = [Kind::Hello, Kind::Welcome, Kind::Ready, Kind::Close][usize::from(*kind) % 4];
    let mut packet = Vec::new();
    PacketWriter::begin(&mut packet, kind, 7, 0).finish(&[]);
    packet.extend_from_slice(body);
    reseal(&mut packet);
    check_packet(&packet);
}

/// Target: a byte stream in chunks. The first byte says how many of the following are the chunks'
/// sizes, the rest is the stream. Any chunking has to give the same packets and the same end.
pub fn stream_split(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else {
        return;
    };
    let (sizes, stream) = rest.split_at(rest.len().min(usize::from(*count)));
    let whole = split(stream, &[]);
    assert_eq!(split(stream, sizes), whole);
    for (start, len) in whole.0 {
        // What was cut out is what the decoder wants: never too short, never too long.
        let outcome = Packet::parse(&stream[start..start + len]).err();
        assert!(!matches!(outcome, Some(Malformed::Alien | Malformed::Version(_))));
    }
}

/// Where the packets of a stream are (start and length) and what ends it, read in chunks of the
/// given sizes, the rest at once.
pub fn split(stream: &[u8], sizes: &[u8]) -> (Vec<(usize, usize)>, Option<Malformed>) {
    let (mut packets, mut start, mut arrived) = (Vec::new(), 0, 0usize);
    for size in sizes.iter().map(|size| usize::from(*size)).chain([usize::MAX]) {
        arrived = stream.len().min(arrived.saturating_add(size));
        loop {
            match packet_len(&stream[start..arrived]) {
                Ok(Some(len)) if len <= arrived - start => {
                    packets.push((start, len));
                    start += len;
                }
                Ok(_) => break,
                Err(malformed) => return (packets, Some(malformed)),
            }
        }
    }
    (packets, None)
}

/// Checks that `bytes`, if they are a packet, are its only encoding.
pub fn check_packet(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        assert_eq!(rewrite(&packet, bytes), bytes);
        assert_eq!(packet_len(bytes), Ok(Some(bytes.len())));
    }
}

/// Makes length and checksum of a packet right; `false` where there is no room for them.
pub fn reseal(packet: &mut Vec<u8>) -> bool {
    packet.truncate(packet.len() & !7);
    if packet.len() < HEADER_LEN {
        return false;
    }
    let len = packet.len() as u32;
    packet[4..8].copy_from_slice(&len.to_le_bytes());
    // Written out here, so that this is a second opinion on what the checksum covers.
    let crc = crc32c::crc32c(&[&packet[..12], &packet[16..]].concat());
    packet[12..16].copy_from_slice(&crc.to_le_bytes());
    true
}

/// Writes a packet again from what was read of it.
pub fn rewrite(packet: &Packet<'_>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let header = &packet.header;
    match packet.handshake() {
        Some(handshake) => {
            handshake.encode(header.session, &mut out);
            if let Handshake::Close(_) = handshake {
                // The one packet that is read in every version; written in ours.
                out[2] = bytes[2];
                reseal(&mut out);
            }
        }
        None => {
            let mut writer =
                PacketWriter::begin(&mut out, header.kind, header.session, header.number);
            for frame in packet.frames() {
                if let Frame::Data(data) = &frame {
                    assert_eq!(data.records, &bytes[data.at..data.at + data.records.len()]);
                    let mut again = *data;
                    let records = rewrite_records(data.records, data.count as usize);
                    again.records = &records;
                    writer.push_data(&again);
                } else {
                    writer.push(&frame);
                }
            }
            writer.finish(&[]);
        }
    }
    out
}

fn rewrite_records(bytes: &[u8], count: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut records = Records::new(bytes);
    for record in records.by_ref() {
        let start = out.len();
        record.meta.encode(record.body, &mut out);
        assert_eq!(out.len() - start, record.meta.record_len(record.body.len()));
        assert_eq!(&bytes[record.body_at..record.body_at + record.body.len()], record.body);
    }
    assert_eq!(records.position(), bytes.len());
    assert_eq!(Records::new(bytes).count(), count);
    out
}

/// Records of bytes that nobody has checked: they may be nonsense, but they end.
fn walk_records(bytes: &[u8]) {
    let count = Records::new(bytes).count();
    assert!(count <= bytes.len() / 8);
    let far = bytes.first_chunk().map_or(usize::MAX, |raw| usize::from_le_bytes(*raw));
    for at in (0..bytes.len().min(64)).chain([bytes.len(), far, usize::MAX]) {
        if let Ok((record, next)) = Record::decode(bytes, at) {
            assert!(next > at && next <= bytes.len());
            assert!(record.body_at + record.body.len() <= next);
        }
    }
}
