//! Conditions on deletions and copies of the embedded origin.

use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::{demo, put, read};
use crate::support::request;

/// I2: a multi-delete deletes each key only if its condition holds; conditions that the origin lacks are NotImplemented
#[tokio::test]
async fn a_multi_delete_honours_its_conditions() {
    let (_gateway, client) = demo().await;
    for key in ["etag", "any", "other", "size", "modified", "plain"] {
        put(&client, "demo", key, key.into()).await;
    }
    let head = client.head_object().bucket("demo").key("etag").send().await.unwrap();
    let identifier = |key: &str| ObjectIdentifier::builder().key(key);
    let objects = [
        identifier("etag").e_tag(head.e_tag().unwrap()),
        identifier("any").e_tag("*"),
        identifier("other").e_tag("\"00000000000000000000000000000000\""),
        identifier("size").size(4),
        identifier("modified").last_modified_time(DateTime::from_secs(0)),
        identifier("plain"),
    ];
    let objects = objects.map(|object| object.build().unwrap()).to_vec();
    let delete = Delete::builder().set_objects(Some(objects)).build().unwrap();
    let done = client.delete_objects().bucket("demo").delete(delete).send().await.unwrap();
    let deleted: Vec<_> = done.deleted().iter().map(|object| object.key().unwrap()).collect();
    assert_eq!(deleted, ["etag", "any", "plain"]);
    let errors: Vec<_> =
        done.errors().iter().map(|error| (error.key().unwrap(), error.code().unwrap())).collect();
    let expected =
        [("other", "PreconditionFailed"), ("size", "NotImplemented"), ("modified", "NotImplemented")];
    assert_eq!(errors, expected);
    for key in ["other", "size", "modified"] {
        assert_eq!(read(&client, "demo", key).await, key.as_bytes());
    }
}

/// I2: a copy replaces its destination only if the request's conditions hold
#[tokio::test]
async fn a_copy_honours_conditions_on_its_destination() {
    let (gateway, client) = demo().await;
    put(&client, "demo", "source", b"source".to_vec()).await;
    put(&client, "demo", "there", b"there".to_vec()).await;
    let head = client.head_object().bucket("demo").key("there").send().await.unwrap();
    let etag = head.e_tag().unwrap();
    let copy = async |key: &str, condition: (&str, &str)| {
        let headers = [("x-amz-copy-source", "/demo/source"), condition];
        request(gateway.address(), "PUT", &format!("/demo/{key}"), &headers, Some(b""))
            .await
            .complete_status()
    };
    let other = "\"00000000000000000000000000000000\"";
    assert_eq!(copy("there", ("if-none-match", "*")).await, 412);
    assert_eq!(copy("there", ("if-match", other)).await, 412);
    assert_eq!(copy("there", ("if-none-match", other)).await, 501);
    assert_eq!(copy("none", ("if-match", etag)).await, 404);
    assert_eq!(read(&client, "demo", "there").await, b"there");
    assert_eq!(copy("there", ("if-match", etag)).await, 200);
    assert_eq!(read(&client, "demo", "there").await, b"source");
    assert_eq!(copy("new", ("if-none-match", "*")).await, 200);
    assert_eq!(read(&client, "demo", "new").await, b"source");
}
