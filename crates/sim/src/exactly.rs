//! Exactly once across restarts: an outbox and an inbox, each over a log on a simulated disk, joined by
//! production links. Both ends are killed and lose power; once in a while the receiver's disk is
//! lost. The effects are values that are committed with the marks, so they tell for themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidings_core::{
    Delivery, Established, Handshake, Identity, InboxId, Limits, Link, LinkConfig, Message, Order,
    Outbox as Outputs, OutgoingSpec, Output, Overflow, Path, Stage, Time,
};
use tidings_store::{
    Class, Entry, Inbox, Kept, Known, Log, LogConfig, Lsn, MessageId, OWNER_INBOX, OWNER_OUTBOX,
    Outbox, Owner, Parcel, SimDisk, StreamKey,
};
use tidings_wire::Records;

use crate::Violation;
use crate::dice::Dice;
use crate::pair::{step, written, written_packets};

const TO: &str = "to";
const STEPS: u64 = 150;

/// A log with its index; gone with the process that has it.
struct Sender {
    log: Log,
    outbox: Outbox,
    link: Link,
    stream: u32,
    is_bound: bool,
    is_refused: bool,
    /// What was handed to the link and has not ended, by ticket.
    handed: BTreeMap<u64, u64>,
    next: u64,
}

struct Receiver {
    log: Log,
    inbox: Inbox,
    id: InboxId,
    link: Link,
}

struct World {
    dice: Dice,
    now: Time,
    disks: [Arc<SimDisk>; 2],
    nonce: u64,
    /// Effects that were had on a disk that is lost.
    before: BTreeMap<Vec<u8>, u64>,
    is_lost: bool,
}

/// Plays one seed.
pub(crate) fn check(seed: u64) -> Option<Violation> {
    let mut dice = Dice::new(seed, "exactly", 0);
    let disks = [SimDisk::new(dice.number()), SimDisk::new(dice.number())];
    let (nonce, before) = (1, BTreeMap::new());
    let mut world = World { dice, now: Time(1_000_000_000), disks, nonce, before, is_lost: false };
    world.play().err()
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, free_bytes_min: 0, ..LogConfig::default() }
}

fn write(log: &mut Log, entries: &[(Owner, Vec<u8>)]) -> Lsn {
    let parts: Vec<[&[u8]; 1]> = entries.iter().map(|(_, body)| [body.as_slice()]).collect();
    let entries: Vec<Entry<'_>> = entries
        .iter()
        .zip(&parts)
        .map(|((owner, _), parts)| Entry { owner: *owner, parts })
        .collect();
    let lsn = log.append(&entries, Class::Work).expect("the disk has no bounds");
    log.commit().expect("the disk works");
    lsn
}

impl World {
    fn play(&mut self) -> Result<(), Violation> {
        let (mut sender, mut receiver) = (self.sender(), self.receiver());
        self.connect(&mut sender, &mut receiver);
        for _ in 0..STEPS {
            match self.dice.between(0, 99) {
                0..=24 => accept(&mut sender),
                25..=74 => self.exchange(&mut sender, &mut receiver),
                75..=87 => process(&mut receiver, &mut self.dice),
                88..=90 => {
                    sender.link.lost();
                    receiver.link.lost();
                    self.connect(&mut sender, &mut receiver);
                }
                91..=94 => {
                    self.end(0);
                    sender = self.sender();
                    receiver.link.lost();
                    self.connect(&mut sender, &mut receiver);
                }
                _ => {
                    self.end(1);
                    if !self.is_lost && self.dice.chance(50) {
                        self.lose(&receiver);
                    }
                    receiver = self.receiver();
                    sender.link.lost();
                    self.connect(&mut sender, &mut receiver);
                }
            }
            self.judge(&receiver)?;
        }
        for _ in 0..400 {
            if !sender.link.is_connected() {
                self.connect(&mut sender, &mut receiver);
            }
            self.exchange(&mut sender, &mut receiver);
            process(&mut receiver, &mut self.dice);
        }
        self.judge(&receiver)?;
        let accepted = sender.outbox.lane(TO).next() - 1;
        let had = receiver.inbox.range(b"e/").count() as u64;
        if !self.is_lost && had != accepted {
            let text = format!("{accepted} were accepted, {had} had their effect");
            return Err(Violation { invariant: "I3", text, at: self.now.0 });
        }
        Ok(())
    }

    /// No message has its effect twice, on whatever disk.
    fn judge(&self, receiver: &Receiver) -> Result<(), Violation> {
        for (key, value) in receiver.inbox.range(b"e/") {
            let before = self.before.get(key).copied().unwrap_or(0);
            if u64::from(value[0]) + before > 1 {
                let text = format!("{} had its effect twice", String::from_utf8_lossy(key));
                return Err(Violation { invariant: "I2", text, at: self.now.0 });
            }
        }
        Ok(())
    }

    fn end(&mut self, at: usize) {
        let is_kill = self.dice.chance(500);
        let disk = &self.disks[at];
        self.disks[at] = if is_kill { disk.kill() } else { disk.power_loss() };
    }

    /// The receiver's disk is lost.
    fn lose(&mut self, receiver: &Receiver) {
        let had = receiver.inbox.range(b"e/");
        self.before = had.map(|(key, value)| (key.to_vec(), u64::from(value[0]))).collect();
        self.disks[1] = SimDisk::new(self.dice.number());
        self.is_lost = true;
    }

    fn sender(&mut self) -> Sender {
        let disk = Arc::clone(&self.disks[0]);
        let (mut log, _) = Log::open(disk as _, config()).expect("the disk works");
        let mut outbox = Outbox::default();
        log.replay(Lsn(0), &mut |_, lsn, body| outbox.apply(lsn, body)).expect("the disk works");
        let mut link = Link::new(LinkConfig::lan(), self.dice.number());
        let stream = link.open(OutgoingSpec {
            purpose: 0,
            delivery: Delivery::ExactlyOnce,
            order: Order::Fifo,
            is_rendezvous: false,
            channel: "c".to_owned(),
            content: String::new(),
            capacity: 64,
            capacity_bytes: 1 << 20,
            overflow: Overflow::Reject,
        });
        if let Some((id, life)) = outbox.lane(TO).bound() {
            link.expect_inbox(stream, InboxId { id, life });
        }
        let next = outbox.lane(TO).base();
        let (handed, is_bound, is_refused) = (BTreeMap::new(), false, false);
        Sender { log, outbox, link, stream, is_bound, is_refused, handed, next }
    }

    fn receiver(&mut self) -> Receiver {
        let disk = Arc::clone(&self.disks[1]);
        let (mut log, recovery) = Log::open(disk as _, config()).expect("the disk works");
        let mut inbox = Inbox::default();
        log.replay(Lsn(0), &mut |_, lsn, body| inbox.apply(lsn, body)).expect("the disk works");
        let id = InboxId { id: recovery.log.max(1), life: recovery.life };
        Receiver { log, inbox, id, link: Link::new(LinkConfig::lan(), self.dice.number()) }
    }

    fn connect(&mut self, sender: &mut Sender, receiver: &mut Receiver) {
        self.nonce += 2;
        let limits =
            Limits { packet_max: tidings_wire::PACKET_MAX, window: 1 << 20, is_datagram: false };
        let me = |node| Identity { node, incarnation: 1, name: String::new() };
        let (now, nonce) = (self.now, self.nonce);
        let state = sender.link.state();
        let mut first = Handshake::initiator(now, &me(1), limits, nonce, 1, state);
        let mut second = Handshake::acceptor(now, &me(2), limits, nonce + 1);
        drop(step(&mut second, &written(&mut first, now)));
        second.welcome(receiver.link.state());
        let at_a = Established::of(step(&mut first, &written(&mut second, now)));
        let at_b = Established::of(step(&mut second, &written(&mut first, now)));
        let mut out = Outputs::default();
        if let (Some(at_a), Some(at_b)) = (at_a, at_b) {
            sender.link.established(now, &at_a, Path::Stream, &mut out);
            sender.hear(&mut out);
            receiver.link.established(now, &at_b, Path::Stream, &mut out);
        }
    }

    /// A few milliseconds pass, and packets go both ways; now and then the last ones are lost with
    /// their connection.
    fn exchange(&mut self, sender: &mut Sender, receiver: &mut Receiver) {
        self.now = self.now.after(Duration::from_millis(6));
        let mut out = Outputs::default();
        sender.link.tick(self.now, &mut out);
        sender.hear(&mut out);
        sender.feed(self.now);
        for packet in written_packets(&mut sender.link, self.now) {
            let _ = receiver.link.handle(self.now, &packet, &mut out);
            receiver.hear(self.now, &packet, &mut out);
        }
        if self.dice.chance(200) {
            // What the receiver has stored is not heard of.
            sender.link.lost();
            receiver.link.lost();
            return;
        }
        receiver.link.tick(self.now, &mut out);
        out.clear();
        for packet in written_packets(&mut receiver.link, self.now) {
            let _ = sender.link.handle(self.now, &packet, &mut out);
            sender.hear(&mut out);
        }
        sender.settle();
    }
}

/// The application hands a message to the outbox.
fn accept(sender: &mut Sender) {
    let seq = sender.outbox.lane(TO).next();
    let parcel = Parcel { destination: TO, seq, note: b"", key: b"", headers: b"", body: b"" };
    let body = Outbox::send(&parcel);
    let lsn = write(&mut sender.log, &[(OWNER_OUTBOX, body.clone())]);
    sender.outbox.apply(lsn, &body);
}

/// The receiver's application has the effect of one message, in one commit with its mark.
fn process(receiver: &mut Receiver, dice: &mut Dice) {
    let waiting: Vec<Lsn> = receiver.inbox.waiting().map(|(lsn, _)| lsn).collect();
    if waiting.is_empty() {
        return;
    }
    let lsn = waiting[dice.between(0, waiting.len() as u64 - 1) as usize];
    let body = receiver.log.read(lsn).expect("it is kept until it is processed");
    let kept = Inbox::parse(&body).expect("a message");
    let key = format!("e/{}", kept.id.seq).into_bytes();
    let count = receiver.inbox.get(&key).map_or(0, |value| value[0]);
    let records = [
        (OWNER_INBOX, Inbox::done(&[lsn])),
        (OWNER_INBOX, Inbox::put(&key, &[count.saturating_add(1)])),
    ];
    let first = write(&mut receiver.log, &records);
    for (lsn, (_, record)) in (first.0..).zip(&records) {
        receiver.inbox.apply(Lsn(lsn), record);
    }
}

impl Sender {
    fn hear(&mut self, out: &mut Outputs) {
        for output in out.outputs.drain(..) {
            match output {
                Output::Opened { inbox: Some(inbox), .. } => {
                    let body = Outbox::bind(TO, inbox.id, inbox.life);
                    let lsn = write(&mut self.log, &[(OWNER_OUTBOX, body.clone())]);
                    self.outbox.apply(lsn, &body);
                    self.is_bound = true;
                }
                Output::Refused { .. } => self.is_refused = true,
                Output::Ended { ticket, .. } => {
                    self.handed.remove(&ticket);
                }
                _ => {}
            }
        }
        out.clear();
    }

    fn feed(&mut self, now: Time) {
        if !self.is_bound || self.is_refused {
            return;
        }
        let waiting: Vec<u64> =
            self.outbox.lane(TO).waiting(self.next).map(|(seq, _)| seq).take(8).collect();
        let base = self.outbox.lane(TO).base();
        for seq in waiting {
            let body = [seq.to_le_bytes(), base.to_le_bytes()].concat();
            let message = Message { body: &body, until: Stage::Synced, ..Message::default() };
            let mut out = Outputs::default();
            let Ok(ticket) = self.link.send(now, self.stream, &message, &mut out) else { return };
            self.handed.insert(ticket, seq);
            self.next = seq + 1;
            self.hear(&mut out);
        }
    }

    /// What the link has settled, the outbox forgets.
    fn settle(&mut self) {
        let (link, stream) = (&self.link, self.stream);
        let done: Vec<u64> = self
            .handed
            .keys()
            .copied()
            .filter(|ticket| link.stage(stream, *ticket).is_none())
            .collect();
        for ticket in done {
            let Some(seq) = self.handed.remove(&ticket) else { continue };
            let body = Outbox::done(TO, seq);
            let lsn = write(&mut self.log, &[(OWNER_OUTBOX, body.clone())]);
            self.outbox.apply(lsn, &body);
        }
    }
}

impl Receiver {
    fn hear(&mut self, now: Time, packet: &[u8], out: &mut Outputs) {
        for output in std::mem::take(&mut out.outputs) {
            match output {
                Output::Offered { stream, .. } => {
                    self.link.accept_durable(now, stream, 64, 1 << 20, self.id);
                }
                Output::Deliver { stream, base, place, .. } => {
                    let bytes = out.bytes(packet, place).to_vec();
                    let mut records = Records::new(&bytes);
                    let mut start = 0;
                    for seq in base.. {
                        let Some(record) = records.next() else { break };
                        let len = (records.position() - start) as u64;
                        start = records.position();
                        self.store(record.body);
                        // On the disk: now its sender may forget it.
                        self.link.take(now, stream, seq, 1, len);
                        self.link.settle(now, stream, seq..=seq);
                        self.link.hurry(stream);
                    }
                }
                _ => {}
            }
        }
        out.clear();
    }

    fn store(&mut self, body: &[u8]) {
        let number = |at: usize| body.get(at..).and_then(|rest| rest.first_chunk());
        let seq = number(0).map_or(0, |raw| u64::from_le_bytes(*raw));
        let base = number(8).map_or(0, |raw| u64::from_le_bytes(*raw));
        let id = MessageId { stream: StreamKey { node: 1, stream: 1 }, seq, base };
        if self.inbox.look(&id, "c", b"") == Known::New {
            let kept = Kept { id, channel: "c", from: "a", key: b"", record: b"" };
            let record = Inbox::message(&kept);
            let lsn = write(&mut self.log, &[(OWNER_INBOX, record.clone())]);
            self.inbox.apply(lsn, &record);
        }
    }
}
