//! The embedded origin's data directory after a restart, a kill and damage.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use rustix::process::Signal;
use tidegate::origin::{self, Origin, OriginError};

use super::{MIB, client, demo, direct, noise, put, read};
use crate::support::{Gateway, Scratch, wait_for, wait_until};

/// Starts the origin of a directory that this process has served before. A program that another test starts at this moment has the
/// descriptors of this process, and so the lock of the directory, until its `exec`.
async fn start_again(directory: &Path) -> Origin {
    wait_for("the directory is free", || async {
        match origin::start(directory, "real") {
            Ok(origin) => Some(origin),
            Err(OriginError::InUse { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// Objects, buckets and unfinished uploads survive a restart, and replaced bytes are removed.
#[tokio::test]
async fn a_restart_keeps_stored_data() {
    let directory = Scratch::new();
    let files = || fs::read_dir(directory.path().join("store_v2/data")).unwrap().count();
    let origin = origin::start(directory.path(), "real").unwrap();
    let client = direct(&origin);
    client.create_bucket().bucket("other").send().await.unwrap();
    let stored = client.put_object().bucket("other").key("a/../b").metadata("colour", "blue").tagging("t=1");
    stored.expires(DateTime::from(SystemTime::UNIX_EPOCH)).body(b"one".to_vec().into()).send().await.unwrap();
    put(&client, "real", "replaced", vec![1]).await;
    put(&client, "real", "replaced", vec![2]).await;
    let begun = client.create_multipart_upload().bucket("real").key("parts").send().await.unwrap();
    let id = begun.upload_id().unwrap().to_owned();
    let part = |client: &Client, number: i32, body: Vec<u8>| {
        let part = client.upload_part().bucket("real").key("parts").upload_id(&id).part_number(number);
        part.body(body.into()).send()
    };
    let first = part(&client, 1, noise(5 * MIB, 1)).await.unwrap();
    drop(origin);
    fs::write(directory.path().join("store_v2/data").join("0".repeat(32)), "left by a kill").unwrap();
    let origin = start_again(directory.path()).await;
    assert_eq!(files(), 3, "one object each, one part, nothing else");
    let client = direct(&origin);
    let got = client.get_object().bucket("other").key("a/../b").send().await.unwrap();
    assert_eq!(got.metadata().unwrap()["colour"], "blue");
    assert_eq!((got.tag_count(), got.expires_string()), (Some(1), Some("Thu, 01 Jan 1970 00:00:00 GMT")));
    assert_eq!(got.body.collect().await.unwrap().to_vec(), b"one");
    assert_eq!(read(&client, "real", "replaced").await, [2]);
    let second = part(&client, 2, b"end".to_vec()).await.unwrap();
    let parts = [(1, first.e_tag()), (2, second.e_tag())].map(|(number, e_tag)| {
        CompletedPart::builder().part_number(number).set_e_tag(e_tag.map(str::to_owned)).build()
    });
    let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.into())).build();
    let complete = client.complete_multipart_upload().bucket("real").key("parts").upload_id(&id);
    complete.multipart_upload(parts).send().await.unwrap();
    assert_eq!(read(&client, "real", "parts").await.len(), 5 * MIB + 3);
    client.delete_object().bucket("real").key("parts").send().await.unwrap();
    assert_eq!(files(), 2);
}

/// M5: a kill during writes loses no acknowledged object, and no partial object is served
#[tokio::test]
async fn a_kill_loses_no_acknowledged_object() {
    const BYTES: usize = 300_000;
    let mut gateway = Gateway::builder().start().await;
    let acknowledged: Arc<[AtomicU8; 6]> = Arc::default();
    let write = |at: usize| {
        let (client, acknowledged) = (client(&gateway), Arc::clone(&acknowledged));
        tokio::spawn(async move {
            for version in 1..=u8::MAX {
                let put = client.put_object().bucket("demo").key(format!("k{at}"));
                if put.body(vec![version; BYTES].into()).send().await.is_err() {
                    break;
                }
                acknowledged[at].store(version, Ordering::Relaxed);
            }
        })
    };
    let writers: Vec<_> = (0..acknowledged.len()).map(write).collect();
    let versions = || acknowledged.iter().map(|version| version.load(Ordering::Relaxed)).collect::<Vec<_>>();
    wait_until("each key was written twice", || versions().iter().all(|version| *version >= 2)).await;
    gateway.signal(Signal::KILL);
    gateway.wait_exit().await;
    for writer in writers {
        writer.await.unwrap();
    }
    let builder = Gateway::builder();
    let data = gateway.directory().join("tidegate-data");
    std::os::unix::fs::symlink(&data, builder.directory().join("tidegate-data")).unwrap();
    let again = builder.start().await;
    let client = client(&again);
    for (at, version) in versions().into_iter().enumerate() {
        let stored = read(&client, "demo", &format!("k{at}")).await;
        assert_eq!(stored.len(), BYTES);
        assert!(stored.iter().all(|byte| *byte == stored[0]), "k{at} is of two versions");
        // The last write may be stored without an acknowledgement.
        assert!([version, version + 1].contains(&stored[0]), "k{at}: {} after {version}", stored[0]);
    }
    let files = fs::read_dir(data.join("store_v2/data")).unwrap().count();
    assert_eq!(files, versions().len(), "data without a record was left behind");
}

/// The files in a directory, in order.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The record with this text.
fn record_with(directory: &Path, text: &str) -> PathBuf {
    let mut records =
        files(directory).into_iter().filter(|path| fs::read_to_string(path).unwrap().contains(text));
    let record = records.next().unwrap();
    assert_eq!(records.next(), None, "{text}");
    record
}

/// A gateway on the data directory of an ended one.
async fn restarted(mut gateway: Gateway) -> (Gateway, Gateway) {
    gateway.send_sigterm();
    gateway.wait_exit().await;
    let builder = Gateway::builder();
    let data = gateway.directory().join("tidegate-data");
    std::os::unix::fs::symlink(&data, builder.directory().join("tidegate-data")).unwrap();
    (builder.start().await, gateway)
}

/// O4: damage is logged with path and remedy, nothing damaged is deleted, and it is served again after the repair
#[tokio::test]
async fn damaged_objects_are_kept_and_named() {
    let (gateway, client_before) = demo().await;
    for key in ["whole", "short", "gone", "torn"] {
        put(&client_before, "demo", key, key.repeat(1000).into()).await;
    }
    let store = gateway.directory().join("tidegate-data/store_v2");
    let (objects, data) = (store.join("buckets/demo/objects"), store.join("data"));
    let data_of = |key: &str| {
        let content = key.repeat(1000);
        files(&data).into_iter().find(|path| fs::read_to_string(path).unwrap() == content).unwrap()
    };
    let record_of = |key: &str| record_with(&objects, &format!("\"key\":\"{key}\""));
    let (short, gone, torn) = (record_of("short"), record_of("gone"), record_of("torn"));
    let (short_data, gone_data, torn_text) = (data_of("short"), data_of("gone"), fs::read(&torn).unwrap());
    fs::write(&short_data, "short").unwrap();
    fs::remove_file(&gone_data).unwrap();
    fs::write(&torn, &torn_text[..torn_text.len() / 2]).unwrap();
    let unused = data.join("0".repeat(32));
    fs::write(&unused, "of no record").unwrap();
    let before = (files(&objects), files(&data));
    let (again, first) = restarted(gateway).await;
    for path in [&short, &gone, &torn] {
        let name = path.file_name().unwrap().to_str().unwrap();
        let is_of = |line: &serde_json::Value| line["path"].as_str().unwrap().ends_with(name);
        let line = again
            .wait_for_log_line("a file of the embedded origin is not served, it stays on disk", is_of)
            .await;
        assert!(line["detail"].is_string() && line["hint"].is_string(), "{line}");
    }
    let after = client(&again);
    assert_eq!(read(&after, "demo", "whole").await, "whole".repeat(1000).as_bytes());
    for key in ["short", "gone", "torn"] {
        let missing = after.get_object().bucket("demo").key(key).send().await.unwrap_err();
        assert_eq!(missing.code(), Some("NoSuchKey"), "{key}");
    }
    after.delete_object().bucket("demo").key("whole").send().await.unwrap();
    let refused = after.delete_bucket().bucket("demo").send().await.unwrap_err();
    assert_eq!(refused.code(), Some("BucketNotEmpty"));
    put(&after, "demo", "whole", "whole".repeat(1000).into()).await;
    assert_eq!((files(&objects), files(&data).len()), (before.0, before.1.len()));
    // Repaired: everything is served, and only files without a record are removed.
    fs::write(&short_data, "short".repeat(1000)).unwrap();
    fs::write(&gone_data, "gone".repeat(1000)).unwrap();
    fs::write(&torn, torn_text).unwrap();
    let (repaired, _again) = restarted(again).await;
    for key in ["whole", "short", "gone", "torn"] {
        assert_eq!(read(&client(&repaired), "demo", key).await, key.repeat(1000).as_bytes());
    }
    assert!(!unused.exists());
    assert_eq!(files(&data).len(), 4);
    drop(first);
}

/// O4: a damaged part or upload stays on disk and is logged, and the other parts can be completed
#[tokio::test]
async fn damaged_uploads_are_kept_and_named() {
    let directory = Scratch::new();
    let origin = origin::start(directory.path(), "real").unwrap();
    let client = direct(&origin);
    let mut ids = Vec::new();
    for key in ["parts", "torn"] {
        let begun = client.create_multipart_upload().bucket("real").key(key).send().await.unwrap();
        let id = begun.upload_id().unwrap().to_owned();
        for number in [1, 2] {
            let part = client.upload_part().bucket("real").key(key).upload_id(&id).part_number(number);
            part.body(b"part".to_vec().into()).send().await.unwrap();
        }
        ids.push(id);
    }
    drop(origin);
    let uploads = directory.path().join("store_v2/buckets/real/uploads");
    let (part, upload) = (uploads.join(&ids[0]).join("2.json"), uploads.join(&ids[1]).join("upload.json"));
    fs::write(&part, "{").unwrap();
    fs::remove_file(&upload).unwrap();
    let origin = start_again(directory.path()).await;
    let mut named: Vec<_> = origin.faults.iter().map(|fault| fault.path.clone()).collect();
    named.sort();
    let mut expected = [part.clone(), upload];
    expected.sort();
    assert_eq!(named, expected);
    assert_eq!(files(&directory.path().join("store_v2/data")).len(), 4);
    assert_eq!(files(&uploads.join(&ids[1])).len(), 2);
    let client = direct(&origin);
    let listed = client.list_parts().bucket("real").key("parts").upload_id(&ids[0]).send().await.unwrap();
    assert_eq!(listed.parts().iter().map(|part| part.part_number()).collect::<Vec<_>>(), [Some(1)]);
    assert!(part.exists());
}

/// O4: a file of the earlier layout beyond an S3 limit stays on disk and is logged; it prevents neither the start nor
/// the other files
#[tokio::test]
async fn earlier_files_beyond_a_limit_are_kept_and_named() {
    let directory = Scratch::new();
    let folder = directory.path().join(format!("real/{0}/{0}/{0}/{0}/{0}", "k".repeat(204)));
    fs::create_dir_all(&folder).unwrap();
    let (long, short) = (folder.join("long"), directory.path().join("real/short"));
    fs::write(&long, "long").unwrap();
    fs::write(&short, "short").unwrap();
    for _ in 0..2 {
        let origin = start_again(directory.path()).await;
        let named: Vec<_> = origin.faults.iter().map(|fault| &fault.path).collect();
        assert_eq!(named, [&long]);
        assert!(!origin.faults[0].problem.is_empty() && !origin.faults[0].hint.is_empty());
        assert_eq!(read(&direct(&origin), "real", "short").await, b"short");
        assert_eq!(fs::read(&long).unwrap(), b"long");
        assert!(!short.exists());
    }
}
