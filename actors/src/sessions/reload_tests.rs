//! A purged entry never comes back, whatever configurations insert and whenever the actor crashes (G3).

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus::Registry;
use proptest::prelude::*;
use tidegate_config::{PolicyConfig, SessionsConfig};

use crate::actor_shell::{Component, MessageHandler};
use crate::clock;
use crate::mailbox::ActorMessage;
use crate::sessions::actor::{
    GetSession, GetSigningKey, GetVerifiedToken, InsertSession, InsertSigningKey, InsertVerifiedToken,
    Sessions,
};
use crate::sessions::reconfigure::{ApplyChanges, SessionsChange};
use crate::sessions::{
    ClientIdentity, CredentialFingerprint, KeyFingerprint, SessionId, SessionsMetrics, SigningKey,
    SigningKeyId, TokenHash, VerifiedToken,
};
use crate::types::{ConfigNumber, KeyId};

const KEYS: u32 = 3;

fn number(count: usize) -> ConfigNumber {
    (1..count).fold(ConfigNumber::FIRST, |number, _| number.next())
}

/// The component, and what each configuration has purged.
struct Reloads {
    sessions: Sessions,
    /// Keys that the configuration with number `index + 1` purged, and whether it purged all tokens.
    purged: Vec<(Vec<u32>, bool)>,
    oldest: usize,
}

impl Reloads {
    fn new() -> Self {
        let config = SessionsConfig { capacity: NonZeroUsize::MIN, ttl: Duration::from_secs(60) };
        let metrics = SessionsMetrics::register(&Registry::new()).unwrap();
        let mut this =
            Self { sessions: Sessions::new(&config, metrics), purged: vec![(Vec::new(), true)], oldest: 1 };
        let capacity = NonZeroUsize::new(100).unwrap();
        this.change(SessionsChange::Reconfigure { capacity, ttl: config.ttl }, false);
        this
    }

    fn handle<M: ActorMessage>(&mut self, message: M) -> M::Reply
    where
        Sessions: MessageHandler<M>,
    {
        let now = clock::now();
        let decision = self.sessions.decide(&message, now);
        self.sessions.apply(message, decision, now)
    }

    /// Sends a change. If the actor crashes over its message, the restart applies it.
    fn change(&mut self, change: SessionsChange, crashes: bool) {
        self.sessions.changes().push(change);
        match crashes {
            true => self.sessions.restarted(clock::now()),
            false => self.handle(ApplyChanges),
        }
    }

    fn reload(&mut self, keys: Vec<u32>, all_tokens: bool, crashes: bool) {
        self.purged.push((keys.clone(), all_tokens));
        let (keys, number) = (keys.into_iter().map(KeyId::new).collect(), number(self.purged.len()));
        self.change(SessionsChange::Purge { keys, all_tokens, number }, crashes);
    }

    /// A configuration in use: the current one, or a replaced one that is not retired.
    fn in_use(&self, choice: usize) -> usize {
        self.oldest + choice % (self.purged.len() + 1 - self.oldest)
    }

    /// Whether a configuration between the two has purged.
    fn is_purged_between(
        &self,
        one: usize,
        other: usize,
        purges: impl Fn(&(Vec<u32>, bool)) -> bool,
    ) -> bool {
        self.purged[one.min(other)..one.max(other)].iter().any(purges)
    }

    /// Inserts entries of a key and a token, as a request of this configuration that has verified them.
    fn insert(&mut self, key: u32, config: usize) {
        let byte = u8::try_from(config).unwrap();
        let at = number(config);
        let id = SigningKeyId::new(KeyId::new(key), CredentialFingerprint(1), "20250101", "r");
        self.handle(InsertSigningKey { id, key: SigningKey::new([byte; 32]), number: at });
        let id = SessionId::parse(&format!("{key}-{config}")).unwrap();
        let identity = ClientIdentity::Key(KeyId::new(key));
        self.handle(InsertSession { id, identity, number: at });
        let verified = Arc::new(VerifiedToken {
            subject: Some(config.to_string()),
            policy: PolicyConfig::default(),
            expires: SystemTime::UNIX_EPOCH,
            verified_by: KeyFingerprint([0; 32]),
        });
        let id = SessionId::parse(&format!("token-{config}")).unwrap();
        let identity = ClientIdentity::Token(Arc::clone(&verified));
        self.handle(InsertSession { id, identity, number: at });
        self.handle(InsertVerifiedToken { token: TokenHash([0; 32]), verified, number: at });
    }

    /// The configurations that inserted what a request of this configuration finds: of the key, of its signing key, of
    /// sessions of tokens, of the token.
    fn find(&mut self, key: u32, config: usize) -> [Vec<usize>; 2] {
        let at = number(config);
        let id = SigningKeyId::new(KeyId::new(key), CredentialFingerprint(1), "20250101", "r");
        let signing_key = self.handle(GetSigningKey { id, number: at });
        let mut of_key: Vec<usize> = signing_key.iter().map(|key| key.bytes()[0].into()).collect();
        let token = self.handle(GetVerifiedToken { token: TokenHash([0; 32]), number: at });
        let subject = token.and_then(|token| token.subject.clone());
        let mut of_token: Vec<usize> = subject.iter().map(|subject| subject.parse().unwrap()).collect();
        for other in 1..=self.purged.len() {
            let mut finds = |id: String| {
                let id = SessionId::parse(&id).unwrap();
                self.handle(GetSession { id, number: at }).is_some()
            };
            of_key.extend(finds(format!("{key}-{other}")).then_some(other));
            of_token.extend(finds(format!("token-{other}")).then_some(other));
        }
        [of_key, of_token]
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert { key: u32, config: usize },
    Find { key: u32, config: usize },
    Reload { keys: Vec<u32>, all_tokens: bool, crashes: bool },
    Retire { config: usize, crashes: bool },
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..KEYS, 0usize..8).prop_map(|(key, config)| Op::Insert { key, config }),
        8 => (0..KEYS, 0usize..8).prop_map(|(key, config)| Op::Find { key, config }),
        3 => (prop::collection::vec(0..KEYS, 0..KEYS as usize), any::<bool>(), any::<bool>())
            .prop_map(|(keys, all_tokens, crashes)| Op::Reload { keys, all_tokens, crashes }),
        1 => (0usize..8, any::<bool>()).prop_map(|(config, crashes)| Op::Retire { config, crashes }),
        1 => Just(Op::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    /// G3, S5: no request finds an entry that a configuration inserted before or after a purge in between
    #[test]
    fn no_request_finds_an_entry_across_a_purge(ops in prop::collection::vec(op(), 1..120)) {
        let mut reloads = Reloads::new();
        for op in ops {
            match op {
                Op::Insert { key, config } => reloads.insert(key, reloads.in_use(config)),
                Op::Find { key, config } => {
                    let config = reloads.in_use(config);
                    let [of_key, of_token] = reloads.find(key, config);
                    for other in of_key {
                        let is_purged = reloads.is_purged_between(config, other, |(keys, _)| keys.contains(&key));
                        prop_assert!(!is_purged, "{config} found an entry of key {key} of {other}");
                    }
                    for other in of_token {
                        let is_purged = reloads.is_purged_between(config, other, |(_, all_tokens)| *all_tokens);
                        prop_assert!(!is_purged, "{config} found a token of {other}");
                    }
                }
                Op::Reload { keys, all_tokens, crashes } => reloads.reload(keys, all_tokens, crashes),
                Op::Retire { config, crashes } => {
                    reloads.oldest = reloads.in_use(config);
                    let oldest = number(reloads.oldest);
                    reloads.change(SessionsChange::Retire { oldest }, crashes);
                }
                Op::Crash => {
                    reloads.sessions.rebuild(clock::now());
                    reloads.sessions.restarted(clock::now());
                }
            }
        }
    }
}

/// G3: entries of other keys stay, and both configurations use them; those of a purged key are the new one's
#[test]
fn a_purge_removes_what_it_names_and_nothing_else() {
    let mut reloads = Reloads::new();
    for key in 0..2 {
        reloads.insert(key, 1);
    }
    assert_eq!(reloads.find(0, 1), [vec![1, 1], vec![1, 1]]);
    reloads.reload(vec![0], false, false);
    for config in 1..=2 {
        assert_eq!(
            reloads.find(0, config),
            [vec![], vec![1, 1]],
            "{config}: the key is purged, the tokens are not"
        );
        assert_eq!(reloads.find(1, config)[0], [1, 1], "{config}: another key");
    }
    reloads.insert(0, 2);
    reloads.insert(0, 1);
    assert_eq!(reloads.find(0, 2)[0], [2, 2], "the insert of the replaced configuration is refused");
    assert_eq!(reloads.find(0, 1)[0], [0; 0], "and it does not find the entries of the changed key");
    reloads.reload(Vec::new(), true, false);
    assert_eq!(reloads.find(1, 3), [vec![1, 1], vec![]]);
}

/// G3: purges are forgotten when all configurations before them are retired
#[test]
fn purges_do_not_pile_up() {
    let mut reloads = Reloads::new();
    for key in 0..1000 {
        reloads.reload(vec![key], true, false);
        let oldest = number(reloads.purged.len() - 1);
        reloads.change(SessionsChange::Retire { oldest }, false);
        assert!(reloads.sessions.purges().len() <= 1, "{key}");
    }
    let oldest = number(reloads.purged.len());
    reloads.change(SessionsChange::Retire { oldest }, false);
    assert_eq!(reloads.sessions.purges().len(), 0);
}
