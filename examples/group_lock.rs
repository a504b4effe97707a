//! A lock: the members agree in which order they asked for it, and whoever vanishes loses its turn.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings::prelude::*;
use tidings::{Replica, Replicated};

/// Who has the lock, and who waits for it.
#[derive(Default, Serialize, Deserialize)]
struct Lock {
    queue: VecDeque<String>,
    turns: u64,
}

#[derive(Serialize, Deserialize)]
enum Ask {
    Acquire(String),
    /// Its holder gives it back, or somebody has seen it vanish.
    Release(String),
}

impl Replica for Lock {
    type Command = Ask;
    /// The turn: a fencing token that grows with every holder.
    type Output = u64;

    fn apply(&mut self, ask: Ask) -> u64 {
        match ask {
            Ask::Acquire(who) => self.queue.push_back(who),
            Ask::Release(who) => {
                let is_holder = self.queue.front() == Some(&who);
                self.turns += u64::from(is_holder);
                self.queue.retain(|waiting| *waiting != who);
            }
        }
        self.turns
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("names and a number")
    }

    fn install(&mut self, snapshot: &[u8]) {
        *self = serde_json::from_slice(snapshot).unwrap_or_default();
    }
}

async fn member(name: &str, contact: Option<&str>) -> Result<(Node, Replicated<Lock>)> {
    let node = Node::builder().name(name).start().await?;
    node.listen("tcp://127.0.0.1:0").await?;
    let mut group = node.raw_group("lock");
    if let Some(contact) = contact {
        group = group.contact(contact);
    }
    let lock = group.replicate(Lock::default()).await?;
    Ok((node, lock))
}

/// Waits until it is this one's turn.
async fn acquire(lock: &Replicated<Lock>, who: &str) -> Result<u64> {
    lock.submit(Ask::Acquire(who.to_owned())).await?;
    let is_mine = |lock: &Lock| lock.queue.front().is_some_and(|holder| holder == who);
    if !lock.when(Duration::from_secs(10), is_mine).await {
        return Err("it took too long".into());
    }
    Ok(lock.read(|lock| lock.turns))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (ada_node, ada) = member("ada", None).await?;
    let contact = ada_node.addresses()[0].to_string();
    let (bob_node, bob) = member("bob", Some(&contact)).await?;

    println!("ada has the lock, turn {}", acquire(&ada, "ada").await?);
    let waiting = {
        let bob = bob.clone();
        tokio::spawn(async move { acquire(&bob, "bob").await })
    };
    tokio::time::sleep(Duration::from_millis(50)).await;
    println!("bob waits: {}", !waiting.is_finished());

    // Ada leaves without giving it back. Whoever sees the view without her takes it from her.
    ada.leave().await?;
    bob.submit(Ask::Release("ada".to_owned())).await?;
    println!("bob has the lock, turn {}", waiting.await??);
    ada_node.close().await;
    bob_node.close().await;
    Ok(())
}
