//! What durability costs here, as ratios to the disk's own floor in the same run: `flushes [DIR]
//! [ROUNDS]`. The floor is one 4 KiB write and one fdatasync into a file that was written before.

use std::collections::VecDeque;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use tidings_store::{Durability, LogConfig, Lsn, RealDisk, Store, Ticket};

const FLIGHT: usize = 256;
const BODY: [u8; 1024] = [7; 1024];
const OWNER: u16 = 64;

fn percentile(times: &mut [Duration], share: f64) -> f64 {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6
}

/// A file of blocks that were written, to be written again.
fn blocks(folder: &Path) -> std::fs::File {
    let mut options = std::fs::OpenOptions::new();
    let options = options.create(true).truncate(true).write(true);
    let file = options.open(folder.join("floor")).expect("the folder can be written");
    file.write_all_at(&vec![0; 4 << 20], 0).expect("there is room");
    file.sync_all().expect("the disk works");
    file
}

fn one_block(file: &std::fs::File, number: usize) -> Duration {
    let begun = Instant::now();
    let at = (number % 1024 * 4096) as u64;
    file.write_all_at(&[number as u8; 4096], at).expect("there is room");
    file.sync_data().expect("the disk works");
    begun.elapsed()
}

fn one_record(store: &Store) -> Duration {
    let begun = Instant::now();
    let ticket = store.append(OWNER, &[&BODY]).expect("there is room");
    ticket.wait(Durability::Synced).expect("the disk works");
    begun.elapsed()
}

/// Records a second with so many on their way.
fn in_flight(store: &Store, count: usize) -> f64 {
    let mut waiting: VecDeque<Ticket> = VecDeque::new();
    let begun = Instant::now();
    for _ in 0..count {
        if waiting.len() == FLIGHT
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.wait(Durability::Synced).expect("the disk works");
        }
        waiting.push_back(store.append(OWNER, &[&BODY]).expect("there is room"));
    }
    for ticket in waiting {
        ticket.wait(Durability::Synced).expect("the disk works");
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    let mut words = std::env::args().skip(1);
    let folder = words.next().map_or_else(std::env::temp_dir, Into::into);
    let folder = folder.join(format!("tidings-flushes-{}", std::process::id()));
    let rounds: usize = words.next().and_then(|word| word.parse().ok()).unwrap_or(5);
    std::fs::create_dir_all(&folder).expect("the folder can be made");
    let disk = RealDisk::open(folder.join("log")).expect("the folder can be taken");
    let (store, _) = Store::open(disk, LogConfig::default()).expect("it is new");
    let file = blocks(&folder);
    println!("round   floor p50  floor/s    lone p50  ratio  256 in flight/s  ratio");
    let mut ratios = Vec::new();
    for round in 1..=rounds {
        // In turns, so that both see the same disk.
        let (mut floor, mut lone): (Vec<Duration>, Vec<Duration>) =
            (0..1000).map(|number| (one_block(&file, number), one_record(&store))).unzip();
        let floor_rate = floor.len() as f64 / floor.iter().sum::<Duration>().as_secs_f64();
        let floor_p50 = percentile(&mut floor, 0.5);
        let lone_p50 = percentile(&mut lone, 0.5);
        let rate = in_flight(&store, 50_000);
        store.release(OWNER, Lsn(store.synced().0));
        let ratio = (lone_p50 / floor_p50, rate / floor_rate);
        println!(
            "{round:5} {floor_p50:8.0} us {floor_rate:8.0} {lone_p50:8.0} us {:6.2} {rate:16.0} {:6.1}",
            ratio.0, ratio.1
        );
        ratios.push(ratio);
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let lone = ratios[ratios.len() / 2].0;
    ratios.sort_by(|a, b| a.1.total_cmp(&b.1));
    let flight = ratios[ratios.len() / 2].1;
    println!("median: a lone append {lone:.2}x the floor, 256 in flight {flight:.1}x its rate");
    drop(store);
    // Left-overs in a temporary folder are no harm.
    let _ = std::fs::remove_dir_all(&folder);
}
