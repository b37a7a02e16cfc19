//! The names of a list: merged from all sections, sorted, without duplicates, and divided into pages.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::http::bucket_list::query::{Query, encode_token};
use crate::s3::bucket_list::ListedBucket;

/// All buckets that a client may see: creation dates by name.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<String, String>);

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) buckets: Vec<ListedBucket>,
    /// The token of the page after it, if there is one.
    pub(super) next: Option<String>,
}

impl Buckets {
    /// Adds buckets. One that is there already stays as it is.
    pub(super) fn add(&mut self, buckets: impl Iterator<Item = ListedBucket>) {
        for ListedBucket { name, created } in buckets {
            self.0.entry(name).or_insert(created);
        }
    }

    /// The page that a query asks for.
    pub(super) fn page(self, query: &Query) -> Page {
        let after = query.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let mut names =
            self.0.range::<str, _>((after, Bound::Unbounded)).filter(|(name, _)| name.starts_with(prefix));
        let buckets: Vec<ListedBucket> = names
            .by_ref()
            .take(query.max.unwrap_or(usize::MAX))
            .map(|(name, created)| ListedBucket { name: name.clone(), created: created.clone() })
            .collect();
        let next = buckets.last().filter(|_| names.next().is_some()).map(|last| encode_token(&last.name));
        Page { buckets, next }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(all: &[String]) -> Buckets {
        let mut names = Buckets::default();
        names.add(all.iter().map(|name| ListedBucket { name: name.clone(), created: "first".to_owned() }));
        names
    }

    #[test]
    fn a_name_is_listed_once_as_it_came_first() {
        let mut all = buckets(&["b".to_owned(), "a".to_owned()]);
        all.add(std::iter::once(ListedBucket { name: "b".to_owned(), created: "second".to_owned() }));
        let page = all.page(&Query::default());
        let listed: Vec<_> = page.buckets.iter().map(|bucket| (&*bucket.name, &*bucket.created)).collect();
        assert_eq!((listed, page.next), (vec![("a", "first"), ("b", "first")], None));
    }

    proptest! {
        /// V5: the pages of any size join to the sorted list of all names with the prefix, each once
        #[test]
        fn pages_join_to_the_whole(
            all in prop::collection::vec("[ab]{1,4}", 0..30),
            prefix in prop::option::of("[ab]{0,2}"),
            max in 1_usize..9,
        ) {
            let (mut joined, mut after) = (Vec::new(), None);
            loop {
                let query = Query { prefix: prefix.clone(), max: Some(max), after, ..Query::default() };
                let Page { buckets, next } = buckets(&all).page(&query);
                prop_assert!(buckets.len() <= max);
                prop_assert_eq!(next.is_some() && buckets.len() < max, false);
                joined.extend(buckets.into_iter().map(|bucket| bucket.name));
                let Some(next) = next else { break };
                after = Query::parse(&format!("continuation-token={next}")).unwrap().after;
            }
            let mut expected = all;
            expected.retain(|name| name.starts_with(prefix.as_deref().unwrap_or_default()));
            expected.sort();
            expected.dedup();
            prop_assert_eq!(joined, expected);
        }
    }
}
