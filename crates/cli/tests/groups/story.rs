//! What members saw, held against one another: one order, one set of messages for each view.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::stage::{Cluster, Member};

#[derive(Debug, Deserialize)]
struct Line {
    event: String,
    #[serde(default)]
    view: u64,
    #[serde(default)]
    from: String,
    #[serde(default)]
    seq: u64,
    position: Option<u64>,
    #[serde(default)]
    body: String,
}

/// A message as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Message {
    pub view: u64,
    pub from: String,
    pub seq: u64,
    pub position: Option<u64>,
    pub body: String,
}

/// A membership: from a first view to the end, or to the exclusion.
#[derive(Debug, Default)]
pub struct Story {
    pub who: String,
    /// Views in the order in which they were installed.
    pub views: Vec<u64>,
    pub messages: Vec<Message>,
    /// The highest own number that was certain.
    pub certain: u64,
}

impl Story {
    /// All memberships of a process, the first one first.
    pub fn of(member: &Member) -> Vec<Self> {
        let mut stories = vec![Self::default()];
        for line in &member.heard().lines {
            let line: Line = serde_json::from_str(line).unwrap();
            let story = stories.last_mut().unwrap();
            match line.event.as_str() {
                "view" => {
                    let last = story.views.last().copied().unwrap_or(0);
                    assert!(line.view > last, "{}: view {} after {last}", member.name(), line.view);
                    story.views.push(line.view);
                }
                "message" => {
                    let Line { view, from, seq, position, body, .. } = line;
                    assert_eq!(story.views.last(), Some(&view), "{} {from} {seq}", member.name());
                    story.messages.push(Message { view, from, seq, position, body });
                }
                "receipt" => {
                    assert_eq!(line.seq, story.certain + 1, "{}: receipts", member.name());
                    story.certain = line.seq;
                }
                "excluded" => stories.push(Self::default()),
                _ => {}
            }
        }
        stories.retain(|story| !story.views.is_empty());
        stories.iter_mut().for_each(|story| member.name().clone_into(&mut story.who));
        stories
    }

    /// Those of everyone, also of the dead.
    pub fn all(cluster: &Cluster) -> Vec<Self> {
        cluster.members.iter().chain(&cluster.gone).flat_map(Self::of).collect()
    }

    /// The messages of a view, if the whole of it was seen: a later one was installed.
    fn set(&self, view: u64) -> Option<BTreeSet<&Message>> {
        let is_over = self.views.iter().any(|later| *later > view);
        (is_over && self.views.contains(&view))
            .then(|| self.messages.iter().filter(|message| message.view == view).collect())
    }
}

/// Every place of the one order holds the same message wherever it was delivered, and nobody was
/// delivered with a gap or twice. The order, from its first place that anyone saw.
pub fn one_order(stories: &[Story]) -> BTreeMap<u64, &Message> {
    let mut order: BTreeMap<u64, &Message> = BTreeMap::new();
    for story in stories {
        let mut last = None;
        for message in &story.messages {
            let position = message.position.unwrap();
            let next = last.map_or(position, |last| last + 1);
            assert_eq!(position, next, "{} has a gap or an inversion", story.who);
            last = Some(position);
            let known = order.entry(position).or_insert(message);
            assert_eq!(**known, *message, "{} differs at {position}", story.who);
        }
    }
    let first = order.keys().next().copied().unwrap_or(0);
    let last = order.keys().last().copied().unwrap_or(0);
    assert!(order.is_empty() || order.len() as u64 == last - first + 1, "the order has a gap");
    order
}

/// Virtual synchrony: all who went from one view to a later one were delivered the same in it. How
/// many pairs of members and views that held for.
pub fn one_set_for_each_view(stories: &[Story]) -> usize {
    let mut compared = 0;
    let views: BTreeSet<u64> = stories.iter().flat_map(|story| story.views.clone()).collect();
    for view in views {
        let mut sets = stories.iter().filter_map(|story| Some((&story.who, story.set(view)?)));
        let Some((first, set)) = sets.next() else { continue };
        for (who, other) in sets {
            compared += 1;
            if set != other {
                let lacks: Vec<_> = set.symmetric_difference(&other).take(3).collect();
                panic!("view {view}: {first} has {}, {who} {}: {lacks:?}", set.len(), other.len());
            }
        }
    }
    compared
}

/// What one member sends in a view is numbered without a gap, and each is there once.
pub fn no_gap_by_sender(stories: &[Story]) {
    for story in stories {
        let mut last: BTreeMap<(&str, u64), u64> = BTreeMap::new();
        for message in &story.messages {
            let key = (message.from.as_str(), message.view);
            if let Some(last) = last.insert(key, message.seq) {
                let who = &story.who;
                assert_eq!(message.seq, last + 1, "{who}: {} in view {}", key.0, key.1);
            }
        }
    }
}

/// All that a member was told is certain is in the order. How much that is.
pub fn nothing_certain_is_missing(stories: &[Story], order: &BTreeMap<u64, &Message>) -> u64 {
    let mut certain = 0;
    for story in stories {
        let begin = story.views[0];
        // The same name may come back, and count anew.
        let again =
            stories.iter().filter(|other| other.who == story.who).map(|other| other.views[0]);
        let end = again.filter(|view| *view > begin).min().unwrap_or(u64::MAX);
        let own = order.values().filter(|message| message.from == story.who);
        let own = own.filter(|message| (begin..end).contains(&message.view));
        let seqs: BTreeSet<u64> = own.map(|message| message.seq).collect();
        for seq in 1..=story.certain {
            assert!(seqs.contains(&seq), "{} was told that {seq} is certain", story.who);
        }
        certain += story.certain;
    }
    certain
}

/// The bodies of a member's floods are there from the first to the last, in order.
pub fn all_of(story: &Story, from: &str, sent: u64) {
    let bodies = story.messages.iter().filter(|message| message.from == from);
    let numbers = bodies.map(|message| {
        let number = message.body.split('/').nth(1).unwrap();
        number.trim_end_matches('-').parse::<u64>().unwrap()
    });
    let mut expected = 0;
    for number in numbers {
        assert_eq!(number, expected, "{} of {from}", story.who);
        expected += 1;
    }
    assert_eq!(expected, sent, "{} of {from}", story.who);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member that went from view 1 to 2, and was delivered these at 1, 2, ...
    fn story(who: &str, bodies: &[&str]) -> Story {
        let message = |(at, body): (usize, &&str)| Message {
            view: 1,
            from: "a".to_owned(),
            seq: at as u64 + 1,
            position: Some(at as u64 + 1),
            body: (*body).to_owned(),
        };
        let messages = bodies.iter().enumerate().map(message).collect();
        Story { who: who.to_owned(), views: vec![1, 2], messages, certain: 0 }
    }

    #[test]
    fn equal_stories_pass() {
        let stories = [story("a", &["x", "y"]), story("b", &["x", "y"])];
        assert_eq!(one_order(&stories).len(), 2);
        assert_eq!(one_set_for_each_view(&stories), 1);
    }

    #[test]
    #[should_panic(expected = "b differs at 1")]
    fn another_order_is_found() {
        one_order(&[story("a", &["x", "y"]), story("b", &["y", "x"])]);
    }

    #[test]
    #[should_panic(expected = "a has 2, b 1")]
    fn a_message_that_one_survivor_lacks_is_found() {
        one_set_for_each_view(&[story("a", &["x", "y"]), story("b", &["x"])]);
    }

    #[test]
    #[should_panic(expected = "a was told that 3 is certain")]
    fn a_broken_receipt_is_found() {
        let told = Story { certain: 3, ..story("a", &["x", "y"]) };
        let other = story("b", &["x", "y"]);
        let stories = [told, other];
        nothing_certain_is_missing(&stories, &one_order(&stories));
    }
}
