//! Leader election: the oldest member of the agreed view leads. Nobody votes and nothing is stored;
//! the view is the agreement. What the leader does outside carries (epoch, view) as a fencing token:
//! a leader that was paused and does not know yet that it was replaced has an older one.

use tidings::prelude::*;
use tidings::{GroupView, RawGroup, RawGroupEvent};

async fn member(name: &str, contact: Option<&str>) -> Result<(Node, RawGroup)> {
    let node = Node::builder().name(name).start().await?;
    node.listen("tcp://127.0.0.1:0").await?;
    let mut group = node.raw_group("scheduler");
    if let Some(contact) = contact {
        group = group.contact(contact);
    }
    let group = group.join().await?;
    Ok((node, group))
}

/// Something outside the group that accepts the newest leader only.
#[derive(Default)]
struct Printer {
    newest: (u64, u64),
}

impl Printer {
    fn print(&mut self, token: (u64, u64), text: &str) -> bool {
        let is_current = token >= self.newest;
        if is_current {
            self.newest = token;
            println!("printed: {text}");
        }
        is_current
    }
}

async fn view_of(group: &mut RawGroup, members: usize) -> Result<GroupView> {
    loop {
        if let RawGroupEvent::View(view) = group.event().await?
            && view.members.len() == members
        {
            return Ok(view);
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut printer = Printer::default();
    let (ada_node, mut ada) = member("ada", None).await?;
    let contact = ada_node.addresses()[0].to_string();
    let (bob_node, mut bob) = member("bob", Some(&contact)).await?;

    let view = view_of(&mut ada, 2).await?;
    let old = (view.epoch, view.id);
    println!("{} leads", view.coordinator());
    printer.print(old, "the morning report, by ada");

    ada.leave().await?;
    let view = view_of(&mut bob, 1).await?;
    println!("{} leads", view.coordinator());
    printer.print((view.epoch, view.id), "the evening report, by bob");

    // Ada slept through it all and prints with the token that she remembers.
    let is_late = !printer.print(old, "the morning report again");
    println!("the old leader was stopped: {is_late}");
    ada_node.close().await;
    bob_node.close().await;
    Ok(())
}
