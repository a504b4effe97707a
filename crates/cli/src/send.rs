//! `tidings send`: hands bodies to a channel without waiting for each, while [`settle`] follows how
//! far each of them gets.

mod file;
mod outbox;
mod plain;
mod settle;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args;
use tidings::{Delivery, Node, Order, Overflow, RawSender, Send, SendError, Stage};

use self::{
    file::{Pieces, show_progress},
    settle::{Item, Settling},
};
use crate::{
    bodies::{Bodies, Wanted},
    config::Config,
    context::Context,
    diagnose::{channel_address, trouble},
    interrupt::Interrupt,
    node::{Keep, NodeArgs},
    print,
    progress::Progress,
    quantity::{count, parse_duration, parse_rate, parse_size, show_rate},
    trouble::{Exit, Trouble},
    words::{DeliveryWord, OrderWord, OverflowWord, StageWord, word},
};

/// Flags of `tidings send`.
#[derive(Args, Debug)]
pub(crate) struct SendArgs {
    /// Where to, with the channel: tcp://127.0.0.1:7400/orders
    addr: String,
    /// What to send, each word a message; without it the lines of standard input
    #[arg(conflicts_with_all = ["from", "size"])]
    body: Vec<String>,
    /// Send the body so many times; of a file, at most so many lines
    #[arg(short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Send bodies of so many bytes; of a file, pieces of so many [default: 1MiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size, conflicts_with = "from")]
    size: Option<u64>,
    /// Send each line of a file (or of `-`, standard input)
    #[arg(long, value_name = "FILE|-")]
    from: Option<String>,
    /// Send the bytes of a file, in pieces that `tidings recv --file` puts together
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "count", "from", "key", "outbox"])]
    file: Option<PathBuf>,
    /// Send at most so many messages a second
    #[arg(long, value_name = "N/s", value_parser = parse_rate)]
    rate: Option<f64>,
    #[command(flatten)]
    channel: ChannelArgs,
    /// How far each message has to get [default: received; rendezvous: taken; at-most-once: sent;
    /// of a file: processed]
    #[arg(long, value_enum, value_name = "STAGE")]
    until: Option<StageWord>,
    /// An idempotency key, sent with each message
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Each message's deadline [default: 5s]
    #[arg(long, value_name = "D", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// 0 to 31; a higher one overtakes lower ones that have not left yet
    #[arg(long, value_name = "0-31", default_value_t = 0)]
    #[arg(value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: u8,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    outbox: OutboxArgs,
}

/// Keeping what is to be sent.
#[derive(Args, Debug, Default)]
struct OutboxArgs {
    /// Keep each message in this directory until it is settled. The same command again goes on
    /// where it was
    #[arg(long, value_name = "DIR", conflicts_with_all = ["rendezvous", "rate"])]
    outbox: Option<PathBuf>,
}

/// The guarantee of a channel, as flags.
#[derive(Args, Debug)]
struct ChannelArgs {
    /// How often a message may arrive [default: at-least-once]
    #[arg(long, value_enum, value_name = "HOW")]
    delivery: Option<DeliveryWord>,
    /// In which order the messages arrive [default: fifo]
    #[arg(long, value_enum, value_name = "HOW")]
    order: Option<OrderWord>,
    /// Wait until the receiver has taken each message
    #[arg(long)]
    rendezvous: bool,
    /// Messages that may be unsettled [default: 1024]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    capacity: Option<u32>,
    /// What happens to one more [default: block]
    #[arg(long, value_enum, value_name = "HOW")]
    overflow: Option<OverflowWord>,
}

/// All that was chosen, by flag or by configuration.
#[derive(Clone, Copy, Debug)]
struct Choice {
    delivery: Delivery,
    order: Order,
    is_rendezvous: bool,
    capacity: u32,
    capacity_bytes: u64,
    overflow: Overflow,
    until: Stage,
    timeout: Duration,
}

impl Choice {
    fn of(args: &SendArgs, config: &Config) -> Result<Self, Trouble> {
        let channel = &args.channel;
        let delivery = channel.delivery.map_or(config.delivery, |word| word.0);
        let until = match args.until {
            Some(word) => word.stage()?,
            None if channel.rendezvous => Stage::Taken,
            None if delivery == Delivery::AtMostOnce => Stage::Sent,
            // Written, that is: what was only received may end with its receiver.
            None if args.file.is_some() => Stage::Processed,
            None => Stage::Received,
        };
        check_stage(until, delivery, channel.rendezvous)?;
        Ok(Self {
            delivery,
            order: channel.order.map_or(Ok(config.order), OrderWord::order)?,
            is_rendezvous: channel.rendezvous,
            capacity: channel.capacity.unwrap_or(config.capacity),
            capacity_bytes: config.capacity_bytes,
            overflow: channel.overflow.map_or(config.overflow, |word| word.0),
            until,
            timeout: args.timeout.unwrap_or(config.timeout),
        })
    }

    /// The guarantee in words; where it has a limit, with the limit.
    fn describe(&self, is_across_restarts: bool) -> String {
        let mut text = word(&DeliveryWord(self.delivery));
        if self.delivery == Delivery::ExactlyOnce {
            let limit =
                if is_across_restarts { "across restarts" } else { "while both processes live" };
            text.push_str(&format!(" ({limit})"));
        }
        text.push_str(", ");
        text.push_str(&word(&OrderWord::Channel(self.order)));
        if self.is_rendezvous {
            text.push_str(", rendezvous");
        }
        text
    }

    fn open(&self, node: &Node, address: &str) -> Result<RawSender, Trouble> {
        let mut builder = node
            .raw_sender(address)
            .delivery(self.delivery)
            .order(self.order)
            .capacity(self.capacity)
            .capacity_bytes(self.capacity_bytes)
            .overflow(self.overflow)
            .timeout(self.timeout);
        if self.is_rendezvous {
            builder = builder.rendezvous();
        }
        builder.open().wait().map_err(|error| trouble(&error))
    }
}

/// A stage that the guarantee cannot tell of is refused before anything is sent.
fn check_stage(until: Stage, delivery: Delivery, is_rendezvous: bool) -> Result<(), Trouble> {
    let name = until.as_str();
    if delivery == Delivery::AtMostOnce && until > Stage::Sent && !is_rendezvous {
        return Err(Trouble::new(
            "E0304",
            format!("at-most-once cannot tell whether a message was {name}"),
        )
        .why("nothing comes back from the receiver: `sent` is as far as anybody can know")
        .hint("ask for --until sent, or choose --delivery at-least-once"));
    }
    Ok(())
}

pub(crate) fn run(args: SendArgs, context: &Context) -> Result<Exit, Trouble> {
    let (address, _) = channel_address(&args.addr)?;
    let config = context.config()?;
    args.node.judge(&address, &config, context)?;
    if address.is_plain() {
        return plain::run(&args, &address, &config, context);
    }
    let mut choice = Choice::of(&args, &config)?;
    let interrupt = context.interrupt()?;
    if let Some(folder) = &args.outbox.outbox {
        let folder = folder.clone();
        let surroundings = (context, &config, &interrupt);
        return outbox::run(&args, &folder, choice, &address.to_string(), surroundings);
    }
    let mut source = Source::open(&args, &interrupt)?;
    let whole = source.lengths();
    if let Some((piece, _)) = whole {
        choice.capacity_bytes = choice.capacity_bytes.max(2 * piece);
    }
    let node = args.node.start(&config, Keep::Nothing)?;
    let sender = choice.open(&node, &address.to_string())?;
    if whole.is_some() {
        wait_for_memory(&sender, &interrupt);
    }
    let settling = Settling::new(choice, sender.clone(), address.to_string(), context);
    let started = Instant::now();
    let mut feeding = Feeding {
        sender: &sender,
        args: &args,
        choice,
        interrupt: &interrupt,
        settled: settling.settled(),
        has_failed: settling.has_failed(),
        whole,
        accepted: Arc::default(),
        started,
        progress: context.progress(),
    };
    feeding.promise(config.drain);
    let (items, ended) = sync_channel(choice.capacity.min(65_536) as usize);
    let (read, mut settling) = thread::scope(|scope| {
        let settler = scope.spawn(move || settling.follow(ended));
        let read = feeding.run(&mut source, items);
        while feeding.progress.is_on() && !settler.is_finished() {
            feeding.draw();
            thread::sleep(Duration::from_millis(5));
        }
        (read, settler.join())
    });
    feeding.progress.clear();
    let settling = match &mut settling {
        Ok(settling) => settling,
        Err(_) => return Err(Trouble::new("E0603", "the receipts could not be followed")),
    };
    // What was only queued or sent still has its way to go; what waits has ended by its deadline.
    let drain = if interrupt.is_raised() { config.drain } else { choice.timeout.max(config.drain) };
    let left = if choice.until < Stage::Received { drained(&sender, drain) } else { 0 };
    let exit = settling.finish(started.elapsed(), left, context);
    // What has not settled by now was told already.
    let _ = node.close().timeout(Duration::ZERO).wait();
    read?;
    if interrupt.is_raised() { Ok(Exit::Interrupted) } else { exit }
}

/// Waits for what is on its way; how many messages did not settle.
fn drained(sender: &RawSender, within: Duration) -> u32 {
    match sender.drained().timeout(within).wait() {
        Ok(()) => 0,
        Err(_) => sender.unsettled().0,
    }
}

/// Memory that both ends see is there once they are connected. A file is worth the wait; what is not
/// connected soon is waited for as every receiver is.
fn wait_for_memory(sender: &RawSender, interrupt: &Interrupt) {
    let until = Instant::now() + Duration::from_millis(200);
    while !sender.is_open() && Instant::now() < until && !interrupt.is_raised() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A message that is ready to be sent, or why there was no memory for it.
type Offered<'a> = Result<Send<'a>, SendError>;

/// Where the messages come from.
enum Source {
    Bodies(Bodies),
    File(Pieces),
}

impl Source {
    fn open(args: &SendArgs, interrupt: &Interrupt) -> Result<Self, Trouble> {
        if let Some(path) = &args.file {
            return Ok(Self::File(Pieces::open(path, args.size)?));
        }
        let wanted = Wanted {
            words: &args.body,
            size: args.size,
            from: args.from.as_deref(),
            count: args.count,
        };
        Ok(Self::Bodies(Bodies::open(&wanted, interrupt)?))
    }

    /// Of a file: the length of a piece, and of all.
    fn lengths(&self) -> Option<(u64, u64)> {
        match self {
            Self::Bodies(_) => None,
            Self::File(pieces) => Some(pieces.lengths()),
        }
    }

    fn next<'a>(&'a mut self, sender: &'a RawSender) -> Result<Option<Offered<'a>>, Trouble> {
        match self {
            Self::Bodies(bodies) => Ok(bodies.next()?.map(|body| Ok(sender.send(body)))),
            Self::File(pieces) => pieces.next(sender),
        }
    }
}

/// The side that reads bodies and hands them in.
struct Feeding<'a> {
    sender: &'a RawSender,
    args: &'a SendArgs,
    choice: Choice,
    interrupt: &'a Interrupt,
    settled: Arc<AtomicU64>,
    has_failed: Arc<AtomicBool>,
    /// Of a file: the length of a piece, and of all.
    whole: Option<(u64, u64)>,
    accepted: Arc<AtomicU64>,
    started: Instant,
    progress: Progress,
}

impl Feeding<'_> {
    /// Ctrl-C leaves `drain` for what is on its way, and then says what is left.
    fn promise(&self, drain: Duration) {
        let (accepted, settled) = (self.accepted.clone(), self.settled.clone());
        self.interrupt.drain_within(drain, move || {
            let left = accepted.load(Ordering::Relaxed) - settled.load(Ordering::Relaxed);
            let accepted = count(accepted.load(Ordering::Relaxed), "message");
            print::note(&format!("interrupted: of {accepted}, {left} had not reached their stage"));
        });
    }

    fn run(&mut self, source: &mut Source, items: SyncSender<Item>) -> Result<(), Trouble> {
        let mut number = 0u64;
        while !self.interrupt.is_raised() && !self.is_in_vain() {
            let Some(offered) = source.next(self.sender)? else { break };
            if self.pace(number) {
                break;
            }
            number += 1;
            self.accepted.store(number, Ordering::Relaxed);
            let item = self.hand_in(number, offered);
            let is_over =
                matches!(item, Item::Ended(_, SendError::Refused { .. } | SendError::Closed));
            if items.send(item).is_err() || is_over {
                break;
            }
            self.draw();
        }
        Ok(())
    }

    /// A file that lacks a piece is none.
    fn is_in_vain(&self) -> bool {
        self.whole.is_some() && self.has_failed.load(Ordering::Relaxed)
    }

    fn draw(&mut self) {
        let (sender, settled, accepted) = (self.sender, &self.settled, &self.accepted);
        let (elapsed, whole) = (self.started.elapsed(), self.whole);
        self.progress.update(|| {
            if let (Some((piece, size)), true) = (whole, sender.is_open()) {
                let done = settled.load(Ordering::Relaxed).saturating_mul(piece).min(size);
                return show_progress(done, size, elapsed);
            }
            let accepted = count(accepted.load(Ordering::Relaxed), "message");
            let settled = settled.load(Ordering::Relaxed);
            let rate = show_rate(settled as f64 / elapsed.as_secs_f64());
            if sender.is_open() {
                format!("{accepted} sent, {settled} settled, {rate}")
            } else {
                format!("{accepted} to send, waiting for a receiver")
            }
        });
    }

    /// Waits for this message's turn; whether Ctrl-C came meanwhile.
    fn pace(&self, number: u64) -> bool {
        let Some(rate) = self.args.rate else { return false };
        let due = Duration::from_secs_f64(number as f64 / rate);
        let early = due.saturating_sub(self.started.elapsed());
        !early.is_zero() && self.interrupt.sleep(early)
    }

    fn hand_in(&self, number: u64, offered: Offered<'_>) -> Item {
        let send = match offered {
            Ok(send) => send,
            Err(error) => return Item::Ended(number, error),
        };
        let mut send =
            send.until(self.choice.until).timeout(self.choice.timeout).priority(self.args.priority);
        if let Some(key) = &self.args.key {
            send = send.key(key);
        }
        match send.enqueue().wait() {
            Ok(pending) => Item::Accepted(pending),
            Err(error) => Item::Ended(number, error),
        }
    }
}
