//! A chat: views and messages in one stream, each answer after what it answers (causal order).

use tidings::prelude::*;
use tidings::{Group, GroupEvent, GroupOrder};

async fn member(name: &str, contact: Option<&str>) -> Result<(Node, Group<String>)> {
    let node = Node::builder().name(name).start().await?;
    node.listen("tcp://127.0.0.1:0").await?;
    let chat = node.group::<String>("chat").order(GroupOrder::Causal);
    let chat = chat.contacts(&contact.into_iter().collect::<Vec<_>>()).join().await?;
    Ok((node, chat))
}

/// The next line that somebody wrote; views are shown on the way.
async fn hear(who: &str, chat: &mut Group<String>) -> Option<String> {
    while let Some(event) = chat.next().await {
        match event {
            GroupEvent::View(view) => println!("{who} sees {}", view.members.join(" and ")),
            GroupEvent::Message(line) => {
                println!("{who} hears {}: {}", line.from(), *line);
                return Some(line.into_inner());
            }
            _ => {}
        }
    }
    None
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (ada_node, mut ada) = member("ada", None).await?;
    let contact = ada_node.addresses()[0].to_string();
    let (bob_node, mut bob) = member("bob", Some(&contact)).await?;

    bob.multicast(&"who is there?".to_owned())?.await?;
    if hear("ada", &mut ada).await.is_some() {
        ada.multicast(&"it is me, ada".to_owned())?.await?;
    }
    // Whoever hears the answer has heard the question before.
    while hear("bob", &mut bob).await.is_some_and(|line| !line.contains("ada")) {}

    bob.leave().await?;
    while let Some(event) = ada.next().await {
        if let GroupEvent::View(view) = event
            && !view.left.is_empty()
        {
            println!("ada sees that {} has left", view.left.join(", "));
            break;
        }
    }
    bob_node.close().await;
    ada_node.close().await;
    Ok(())
}
