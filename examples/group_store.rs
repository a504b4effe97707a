//! A replicated key-value store: three members hold the same map, a newcomer gets it whole, and it
//! survives the member that founded it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidings::prelude::*;
use tidings::{Replica, Replicated};

#[derive(Debug, Default)]
struct Store(BTreeMap<String, String>);

#[derive(Serialize, Deserialize)]
enum Command {
    Set(String, String),
    /// Only if the value is still this one: two members that race cannot both win.
    Swap(String, String, String),
}

impl Replica for Store {
    type Command = Command;
    type Output = Result<Option<String>, String>;

    fn apply(&mut self, command: Command) -> Self::Output {
        match command {
            Command::Set(key, value) => Ok(self.0.insert(key, value)),
            Command::Swap(key, old, new) => match self.0.get_mut(&key) {
                Some(value) if *value == old => Ok(Some(std::mem::replace(value, new))),
                value => Err(format!("{key} is {:?} by now", value.map(|value| &*value))),
            },
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("a map of strings")
    }

    fn install(&mut self, snapshot: &[u8]) {
        self.0 = serde_json::from_slice(snapshot).unwrap_or_default();
    }
}

/// A member on a node of its own; without a contact it founds the group.
async fn member(name: &str, contact: Option<&str>) -> Result<(Node, Replicated<Store>)> {
    let node = Node::builder().name(name).start().await?;
    node.listen("tcp://127.0.0.1:0").await?;
    let mut group = node.raw_group("store");
    if let Some(contact) = contact {
        group = group.contact(contact);
    }
    let store = group.replicate(Store::default()).await?;
    Ok((node, store))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (ada_node, ada) = member("ada", None).await?;
    let contact = ada_node.addresses()[0].to_string();
    ada.submit(Command::Set("colour".into(), "blue".into())).await?.ok();

    // Bob was not there when the colour was set: it comes with the state.
    let (bob_node, bob) = member("bob", Some(&contact)).await?;
    let (_cyd_node, cyd) = member("cyd", Some(&contact)).await?;
    println!("bob reads {:?}", bob.read(|store| store.0.get("colour").cloned()));

    // Two members race; the order of the group decides, the same way at all of them.
    let swap = |to: &str| Command::Swap("colour".into(), "blue".into(), to.into());
    let (red, green) = tokio::join!(bob.submit(swap("red")), cyd.submit(swap("green")));
    let won = [red?, green?].iter().filter(|result| result.is_ok()).count();
    println!("{won} of 2 swaps won");

    // The founder goes; the others go on.
    ada.leave().await?;
    ada_node.close().await;
    bob.submit(Command::Set("shape".into(), "round".into())).await?.ok();
    let is_there = cyd.when(Duration::from_secs(5), |store| store.0.contains_key("shape")).await;
    let same = bob.read(|bob| cyd.read(|cyd| bob.0 == cyd.0));
    println!("cyd knows the shape: {is_there}; both have the same: {same}");

    bob_node.close().await;
    Ok(())
}
