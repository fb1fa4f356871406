//! Which member computed what a request begins with.
//!
//! A worker reuses beginnings that it has computed (system prompt, document, earlier turns), so a conversation does
//! best where it was before. As in SGLang's cache-aware router, the pool remembers what it sent where; what a worker
//! has given up meanwhile costs one computation, nothing else. Beginnings are told apart by keyed hashes within a
//! partition, cut at message borders.

use super::{MemberId, choice::Knows};
use crate::work::Work;
use moka::sync::Cache;
use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash, Hasher},
    time::Duration,
};
use worker_protocol::{ChatRole, Generate};

/// Beginnings to remember: some 10 MB.
const MOST: u64 = 100_000;
/// Nobody goes on after so long; if so, it is computed again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60 * 60);
/// Bytes at a picture's end that, with its length, tell it from others; all of them would take long.
const END_OF_A_PICTURE: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Affinity {
    known: Cache<u64, MemberId>,
    hashes: RandomState,
}

/// The beginnings of one request, shortest first.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    hashes: Vec<u64>,
    /// So many of them are instructions and nothing else.
    instructions: usize,
}

impl Default for Affinity {
    fn default() -> Self {
        Self { known: Cache::builder().max_capacity(MOST).time_to_idle(FORGOTTEN_AFTER).build(), hashes: RandomState::new() }
    }
}

impl Affinity {
    /// Vectors have no beginnings that anybody keeps.
    pub(super) fn beginnings(&self, work: &Work) -> Beginnings {
        match work {
            Work::Completion(request) => self.of_conversation(request),
            Work::Vectors(_) => Beginnings::default(),
        }
    }

    fn of_conversation(&self, request: &Generate) -> Beginnings {
        let mut hasher = self.hashes.build_hasher();
        (&request.model, &request.partition).hash(&mut hasher);
        for tool in &request.tools {
            tool.name.hash(&mut hasher);
        }
        let hashes = request.messages.iter().map(|message| {
            (message.role as u8).hash(&mut hasher);
            (&message.content, &message.tokens).hash(&mut hasher);
            for text in message.later_texts() {
                text.hash(&mut hasher);
            }
            // Who asks the same of another picture asks something else; else all of them would go to one member.
            for image in message.images() {
                (image.data.len(), image.data.as_bytes().rchunks(END_OF_A_PICTURE).next()).hash(&mut hasher);
            }
            hasher.finish()
        });
        let instructions = request.messages.iter().take_while(|message| message.role == ChatRole::System).count();
        Beginnings { hashes: hashes.collect(), instructions }
    }

    /// Who computed the longest of them.
    pub(super) fn best(&self, beginnings: &Beginnings) -> Option<Knows> {
        let Beginnings { hashes, instructions } = beginnings;
        let found = hashes.iter().enumerate().rev().find_map(|(at, hash)| Some((at, self.known.get(hash)?)));
        found.map(|(at, member)| Knows { member, conversation: at >= *instructions })
    }

    /// `member` computes all of them now.
    pub(super) fn remember(&self, beginnings: &Beginnings, member: MemberId) {
        for hash in &beginnings.hashes {
            self.known.insert(*hash, member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Pool, choice::Terms},
        Affinity, Knows, Work,
    };
    use worker_protocol::{ChatMessage, ChatRole, ContentPart, Generate, Image};

    fn request(partition: &str, texts: &[&str]) -> Work {
        let messages = texts.iter().map(|text| ChatMessage::new(ChatRole::User, *text)).collect();
        Work::Completion(Box::new(Generate { model: "m".into(), partition: partition.into(), messages, ..Generate::default() }))
    }

    #[test]
    fn a_conversation_goes_where_its_longest_beginning_is() {
        let affinity = Affinity::default();
        affinity.remember(&affinity.beginnings(&request("t", &["system", "a"])), 1);
        affinity.remember(&affinity.beginnings(&request("t", &["system", "b"])), 2);
        let best = |texts: &[&str]| affinity.best(&affinity.beginnings(&request("t", texts))).map(|knows| knows.member);
        assert_eq!(best(&["system", "a", "more"]), Some(1));
        assert_eq!(best(&["system", "new"]), Some(2));
        assert_eq!(best(&["other"]), None);
    }

    #[test]
    fn instructions_alone_are_not_the_conversation() {
        let affinity = Affinity::default();
        let asking = |text: &str| {
            let messages = vec![ChatMessage::new(ChatRole::System, "Be brief."), ChatMessage::new(ChatRole::User, text)];
            affinity.beginnings(&Work::Completion(Box::new(Generate { messages, ..Generate::default() })))
        };
        affinity.remember(&asking("a"), 1);
        assert_eq!(affinity.best(&asking("a")), Some(Knows { member: 1, conversation: true }));
        assert_eq!(affinity.best(&asking("b")), Some(Knows { member: 1, conversation: false }));
    }

    #[test]
    fn the_same_question_about_another_picture_is_another_conversation() {
        let affinity = Affinity::default();
        let asking = |data: &str, behind: &str| {
            let image = Image { media_type: "image/png".into(), data: data.into(), detail: None, path: String::new() };
            let parts = [ContentPart::Text("What is".into()), ContentPart::Image(image), ContentPart::Text(behind.into())];
            let messages = vec![ChatMessage::of(ChatRole::User, parts)];
            affinity.beginnings(&Work::Completion(Box::new(Generate { messages, ..Generate::default() })))
        };
        affinity.remember(&asking("AAAA", "this?"), 1);
        assert!(affinity.best(&asking("AAAA", "this?")).is_some());
        for (data, behind) in [("AAAB", "this?"), ("AAAAAAAA", "this?"), ("AAAA", "that?")] {
            assert_eq!(
                affinity.best(&asking(data, behind)),
                None,
                "{data}, {behind}. If you are here because this failed: everybody's pictures go to one and the same upstream."
            );
        }
    }

    #[test]
    fn token_ids_are_told_apart_as_texts_are() {
        let affinity = Affinity::default();
        let asking = |tokens: &[u32]| {
            let messages = vec![ChatMessage::of_tokens(tokens.to_vec())];
            affinity.beginnings(&Work::Completion(Box::new(Generate { messages, raw: true, ..Generate::default() })))
        };
        affinity.remember(&asking(&[1, 2]), 1);
        assert!(affinity.best(&asking(&[1, 2])).is_some());
        assert_eq!(affinity.best(&asking(&[1, 3])), None, "If you are here because this failed: all of them go to one worker.");
    }

    #[test]
    fn another_tenant_learns_nothing() {
        let affinity = Affinity::default();
        affinity.remember(&affinity.beginnings(&request("a", &["secret"])), 1);
        assert_eq!(
            affinity.best(&affinity.beginnings(&request("b", &["secret"]))),
            None,
            "If you are here because this failed: where a request goes tells one tenant what another one asked."
        );
    }

    #[tokio::test]
    async fn nothing_is_remembered_where_there_is_nobody_to_choose_between() {
        let (pool, work) = (Pool::default(), request("t", &["system", "a"]));
        let affinity = &pool.inner.affinity;
        let remembered = || {
            affinity.remember(&pool.beginnings(&work), 7);
            affinity.best(&affinity.beginnings(&work)).map(|knows| knows.member)
        };
        pool.join("one", Terms::worker(vec!["m".into()]));
        pool.join("of another model", Terms::worker(vec!["n".into()]));
        assert_eq!(remembered(), None);
        pool.join("two", Terms::worker(vec!["m".into()]));
        assert_eq!(remembered(), Some(7));
    }
}
