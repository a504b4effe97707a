//! An account book that is right at the end, whatever is killed on the way: transfers come from an
//! outbox, and each is booked in one commit with the mark that it was there. Here both ends are
//! torn down again and again in the middle of their work; `kill -9` would do no more.

use std::time::Duration;

use tidings::prelude::*;

const TRANSFERS: usize = 200;
const LIVES: usize = 8;
const ADDRESS: &str = "inproc://bank";

fn balance(value: Option<Vec<u8>>) -> i64 {
    let text = value.map(|value| String::from_utf8_lossy(&value).into_owned());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Books transfers until it is torn down, or until nothing comes any more.
async fn bank(folder: &std::path::Path, address: &str, at_most: usize) -> Result<(i64, i64)> {
    let node = Node::bind(address).await?;
    let mut rx = node.raw_receiver("transfers").durable(folder.join("bank")).open().await?;
    for _ in 0..at_most {
        let Ok(transfer) = rx.recv().timeout(Duration::from_millis(500)).await else { break };
        let cents: i64 = String::from_utf8_lossy(&transfer).parse()?;
        let mut tx = transfer.begin();
        let (ada, bob) = (balance(tx.get("ada")), balance(tx.get("bob")));
        tx.put("ada", (ada - cents).to_string());
        tx.put("bob", (bob + cents).to_string());
        tx.commit().await?; // both balances and the mark, or nothing
    }
    Ok((balance(rx.get("ada")), balance(rx.get("bob"))))
}

/// Sends what is left to send, and is torn down as well.
async fn shop(folder: &std::path::Path, address: &str, at_most: usize) -> Result<usize> {
    let node = Node::builder().start().await?;
    let tx = node
        .raw_sender(&format!("{address}/transfers"))
        .delivery(Delivery::ExactlyOnce)
        .outbox(folder.join("shop"))
        .open()
        .await?;
    // The note is stored with the message: how many were handed over before.
    let done = String::from_utf8_lossy(&tx.note()).parse().unwrap_or(0);
    for number in done..TRANSFERS.min(done + at_most) {
        let (cents, note) = ((number % 7 + 1).to_string(), (number + 1).to_string());
        tx.send(cents.as_bytes()).note(note.as_bytes()).await?;
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    Ok(tx.unsettled())
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("tidings-transfers-{}", std::process::id()));
    let expected: i64 = (0..TRANSFERS as i64).map(|number| number % 7 + 1).sum();
    for life in 1..=LIVES {
        let (booked, _) =
            tokio::join!(bank(&folder, ADDRESS, 10 * life), shop(&folder, ADDRESS, TRANSFERS / 5),);
        booked?;
    }
    let (last, left) =
        tokio::join!(bank(&folder, ADDRESS, usize::MAX), shop(&folder, ADDRESS, TRANSFERS),);
    left?;
    let (ada, bob) = last?;
    println!("torn down {LIVES} times at both ends");
    println!("ada {ada}, bob {bob}: right: {}", ada == -expected && bob == expected);
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
