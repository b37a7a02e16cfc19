//! Large configurations: the work for a key that no source sets, counted and not timed.

use crate::entry::{Entry, ValueInEffect};
use crate::schema::Walk;
use crate::{Config, Sources};

/// The entries of a walk over this number of buckets and client keys.
fn entries(count: usize) -> Vec<Entry> {
    let mut text = "[policies.all]\nbuckets = [\"*\"]\nmethods = [\"read\"]\n".to_owned();
    for number in 0..count {
        text.push_str(&format!("[buckets.b{number}.s3]\nendpoints = [\"http://store:9000/{number}\"]\n"));
        text.push_str(&format!("[keys.k{number}]\nsecret = \"secret-of-{number}\"\npolicy = \"all\"\n"));
    }
    let mut walk = Walk::over(Sources::default().text("t.toml", text).merge().settings);
    let _ = Config::read(&mut walk.root());
    assert!(walk.problems.is_empty(), "{:?}", walk.problems);
    walk.entries
}

/// G3: a load makes texts for the keys that are set and for the few that follow another key, not for the hundreds of others
#[test]
fn a_key_that_is_not_set_needs_no_text() {
    let (few, many) = (entries(10), entries(30));
    let with_text = |entries: &[Entry]| {
        let has_text = |entry: &&Entry| {
            let is_own = matches!(entry.value, ValueInEffect::Own(_));
            is_own || !entry.accepts.is_empty() || entry.default.value.is_some()
        };
        entries.iter().filter(has_text).count()
    };
    let all = (many.len() - few.len()) / 20;
    let texts = (with_text(&many) - with_text(&few)) / 20;
    assert!(all > 150, "a bucket and a key have {all} keys");
    assert!(texts <= 12, "{texts} of {all} keys have a text");
}
