//! Limits of the index, which is held in memory. A request that would exceed one is refused with `QuotaExceeded`.

use http::StatusCode;
use s3s::{S3Error, S3ErrorCode, S3Result};

/// Maximum numbers of items in the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Buckets of the store. The default is that of S3.
    pub(super) buckets: usize,
    /// Objects of a bucket.
    pub(super) objects: usize,
    /// Unfinished uploads of a bucket.
    pub(super) uploads: usize,
    /// Parts of all unfinished uploads of a bucket.
    pub(super) parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { buckets: 100, objects: 250_000, uploads: 1000, parts: 100_000 }
    }
}

/// Refuses another item if `count` has reached `max`.
pub(super) fn check_limit(count: usize, max: usize, what: &str) -> S3Result<()> {
    if count < max {
        return Ok(());
    }
    let message = format!("the embedded origin has a limit of {max} {what}");
    let mut error = S3Error::with_message(S3ErrorCode::Custom("QuotaExceeded".into()), message);
    error.set_status_code(StatusCode::BAD_REQUEST);
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::conditions::WriteConditions;
    use crate::origin::directory::prepare;
    use crate::origin::record::{Attributes, UploadRecord};
    use crate::origin::store::{Store, now};
    use crate::origin::test_objects::object;
    use crate::origin::upload_checksum::UploadChecksum;
    use crate::scratch::Scratch;

    fn code<T>(outcome: S3Result<T>) -> String {
        outcome.map_or_else(|error| error.code().as_str().to_owned(), |_| "ok".to_owned())
    }

    /// Each number in the store is limited, and an item beyond the limit is refused with a distinct error
    #[test]
    fn each_number_is_limited() {
        let scratch = Scratch::new();
        let limits = Limits { buckets: 1, objects: 2, uploads: 2, parts: 3 };
        let (store, _) = Store::open(scratch.path(), prepare(scratch.path()).unwrap(), limits).unwrap();
        assert_eq!(code(store.create_bucket("one")), "ok");
        assert_eq!(code(store.create_bucket("two")), "TooManyBuckets");
        let put = |key: &str| code(store.put("one", key, object("x"), &WriteConditions::default()));
        assert_eq!(["a", "b", "c", "a"].map(put), ["ok", "ok", "QuotaExceeded", "ok"]);
        let record = |key: &str| UploadRecord {
            key: key.to_owned(),
            initiated: now(),
            attributes: Attributes::default(),
            tags: Vec::new(),
            checksum: UploadChecksum::default(),
        };
        let begin = |id: &str| code(store.begin_upload("one", id, record("a")));
        assert_eq!(["1", "2", "3"].map(begin), ["ok", "ok", "QuotaExceeded"]);
        let part = |(id, number): (&str, i32)| code(store.put_part("one", ("a", id), number, object("x")));
        let parts = [("1", 1), ("1", 2), ("2", 1), ("2", 2), ("2", 1)];
        assert_eq!(parts.map(part), ["ok", "ok", "ok", "QuotaExceeded", "ok"]);
        let complete = |key: &str, id: &str| {
            store.begin_upload("one", id, record(key))?;
            store.complete("one", (key, id), object("x"), &WriteConditions::default())
        };
        store.abort("one", ("a", "1")).unwrap();
        assert_eq!(code(complete("new", "4")), "QuotaExceeded");
        store.abort("one", ("new", "4")).unwrap();
        assert_eq!(code(complete("a", "5")), "ok");
    }
}
