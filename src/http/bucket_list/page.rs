//! The names of a list: merged from all sections, sorted, without duplicates, and divided into pages.

use std::collections::BTreeMap;
use std::ops::Bound;

use tidegate_s3::bucket_list::{ListedBucket, RegionalBucket};

use crate::http::bucket_list::query::{BucketListQuery, encode_token};

/// All buckets that a client may see, by name.
#[derive(Debug, Default)]
pub(super) struct VisibleBuckets<'a>(BTreeMap<String, Details<'a>>);

#[derive(Debug)]
struct Details<'a> {
    created: String,
    region: &'a str,
}

/// One page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BucketPage<'a> {
    pub(super) buckets: Vec<RegionalBucket<'a>>,
    /// The token of the next page, if there is one.
    pub(super) next_token: Option<String>,
}

impl<'a> VisibleBuckets<'a> {
    /// Adds buckets of this region. A name that was added before keeps its first entry.
    pub(super) fn add(&mut self, region: &'a str, buckets: impl Iterator<Item = ListedBucket>) {
        for ListedBucket { name, created } in buckets {
            self.0.entry(name).or_insert(Details { created, region });
        }
    }

    /// The page that the query selects.
    pub(super) fn page(self, query: &BucketListQuery) -> BucketPage<'a> {
        let after = query.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let prefix = query.prefix.as_deref().unwrap_or_default();
        let mut names =
            self.0.range::<str, _>((after, Bound::Unbounded)).filter(|(name, _)| name.starts_with(prefix));
        let regional = |(name, Details { created, region }): (&String, &Details<'a>)| RegionalBucket {
            bucket: ListedBucket { name: name.clone(), created: created.clone() },
            region,
        };
        let buckets: Vec<_> = names.by_ref().take(query.max.unwrap_or(usize::MAX)).map(regional).collect();
        let last = buckets.last().filter(|_| names.next().is_some());
        let next_token = last.map(|last| encode_token(&last.bucket.name));
        BucketPage { buckets, next_token }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn buckets(all: &[String]) -> VisibleBuckets<'static> {
        let mut names = VisibleBuckets::default();
        let first = |name: &String| ListedBucket { name: name.clone(), created: "first".to_owned() };
        names.add("eu-1", all.iter().map(first));
        names
    }

    #[test]
    fn a_name_is_listed_once_with_its_first_entry() {
        let mut all = buckets(&["b".to_owned(), "a".to_owned()]);
        let second = |name: &str| ListedBucket { name: name.to_owned(), created: "second".to_owned() };
        all.add("eu-2", ["b", "c"].into_iter().map(second));
        let page = all.page(&BucketListQuery::default());
        let shown = |RegionalBucket { bucket, region }| (bucket.name, bucket.created, region);
        let listed: Vec<_> = page.buckets.into_iter().map(shown).collect();
        let expected = [("a", "first", "eu-1"), ("b", "first", "eu-1"), ("c", "second", "eu-2")];
        let expected = expected.map(|(name, created, region)| (name.to_owned(), created.to_owned(), region));
        assert_eq!((listed, page.next_token), (expected.to_vec(), None));
    }

    proptest! {
        /// The pages of any size join to the sorted list of all names with the prefix, each once
        #[test]
        fn pages_join_to_the_full_list(
            all in prop::collection::vec("[ab]{1,4}", 0..30),
            prefix in prop::option::of("[ab]{0,2}"),
            max in 1_usize..9,
        ) {
            let (mut joined, mut after) = (Vec::new(), None);
            loop {
                let query = BucketListQuery { prefix: prefix.clone(), max: Some(max), after, ..BucketListQuery::default() };
                let BucketPage { buckets, next_token } = buckets(&all).page(&query);
                prop_assert!(buckets.len() <= max);
                prop_assert_eq!(next_token.is_some() && buckets.len() < max, false);
                joined.extend(buckets.into_iter().map(|listed| listed.bucket.name));
                let Some(next) = next_token else { break };
                after = BucketListQuery::parse(&format!("continuation-token={next}")).unwrap().after;
            }
            let mut expected = all;
            expected.retain(|name| name.starts_with(prefix.as_deref().unwrap_or_default()));
            expected.sort();
            expected.dedup();
            prop_assert_eq!(joined, expected);
        }
    }
}
