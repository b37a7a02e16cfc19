// Object operations of the AWS SDK for JavaScript, with any store. A case throws if an assertion fails.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import * as s3 from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

import { bytesOf, fails } from "./place.js";

const MIB = 1 << 20;
const ALGORITHMS = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"];
const KEYS = [
  "plain",
  "a b",
  "a+b",
  "100%",
  "%2F",
  "ü/日本/🦀",
  "a&b=c?d#e",
  "'quotes\" (and) [brackets] {too}!",
  "~tilde*star$",
  "..name/x..",
  "a//b",
  "a/",
];

export const cases = [];

// `stores` support the operation; `gateway` marks operations that some of them do not support without the gateway: trailers,
// virtual-hosted buckets; `signed` needs a gateway that verifies signatures.
function add(name, test, { stores = ["origin", "rgw"], gateway = false, signed = false } = {}) {
  cases.push({ name, stores, gateway, signed, test });
}

function piecewise(body, size = 100_003) {
  return Readable.from(
    (function* () {
      for (let at = 0; at < body.length; at += size) yield body.subarray(at, at + size);
    })(),
    { objectMode: false },
  );
}

const md5 = (body) => createHash("md5").update(body).digest("hex");
const send = (client, Command, input) => client.send(new s3[`${Command}Command`](input));

for (const checksums of ["WHEN_SUPPORTED", "WHEN_REQUIRED"]) {
  for (const size of [0, 1, 65536, 65537, 8 * MIB + 1]) {
    add(`an object of ${size} bytes comes out as it went in, checksums ${checksums}`, async (place) => {
      const client = place.client({ checksums });
      const body = randomBytes(size);
      const put = await send(client, "PutObject", place.at("o", { Body: body }));
      assert.equal(put.ETag, `"${md5(body)}"`);
      const head = await send(client, "HeadObject", place.at("o"));
      const got = await send(client, "GetObject", place.at("o"));
      assert.deepEqual([head.ContentLength, head.ETag], [size, put.ETag]);
      assert.deepEqual([got.ContentLength, got.ETag], [size, put.ETag]);
      assert.ok(body.equals(await bytesOf(got)));
      await send(client, "DeleteObject", place.at("o"));
      await fails(send(client, "HeadObject", place.at("o")), s3.NotFound, 404);
    });
  }
}

for (const ChecksumAlgorithm of ALGORITHMS) {
  add(`${ChecksumAlgorithm} in a header is verified`, async (place) => {
    const client = place.client();
    for (const size of [1000, 300_000]) {
      const body = randomBytes(size);
      await send(client, "PutObject", place.at("o", { Body: body, ChecksumAlgorithm }));
      const got = await send(client, "GetObject", place.at("o", { ChecksumMode: "ENABLED" }));
      assert.ok(body.equals(await bytesOf(got)));
    }
  });
  add(
    `${ChecksumAlgorithm} in the trailer of a stream is verified`,
    async (place) => {
      const client = place.client();
      for (const size of [0, 1000, 300_000, 5 * MIB + 1]) {
        const body = randomBytes(size);
        const input = place.at("o", { Body: piecewise(body), ContentLength: size, ChecksumAlgorithm });
        const put = await send(client, "PutObject", input);
        assert.equal(put.ETag, `"${md5(body)}"`);
        const got = await send(client, "GetObject", place.at("o", { ChecksumMode: "ENABLED" }));
        assert.equal(got.ContentEncoding, undefined);
        assert.ok(body.equals(await bytesOf(got)));
      }
    },
    { gateway: true },
  );
}

add(
  "a stream of unknown length is uploaded in parts",
  async (place) => {
    const client = place.client();
    const body = randomBytes(12 * MIB + 5);
    const params = place.at("big + file", { Body: piecewise(body), Metadata: { kind: "stream" } });
    await new Upload({ client, params, partSize: 5 * MIB, queueSize: 3 }).done();
    // RGW's answer to the completion has no ETag.
    const got = await send(client, "GetObject", place.at("big + file"));
    assert.match(got.ETag, /-3"$/);
    assert.deepEqual(got.Metadata, { kind: "stream" });
    assert.ok(body.equals(await bytesOf(got)));
  },
  { gateway: true },
);

add(
  "a short stream of unknown length is uploaded in one request",
  async (place) => {
    const client = place.client();
    const params = place.at("o", { Body: piecewise(Buffer.from("short")) });
    await new Upload({ client, params }).done();
    const got = await send(client, "GetObject", place.at("o"));
    assert.equal(await got.Body.transformToString(), "short");
  },
  { gateway: true },
);

add("parts can be copied, listed, completed and aborted", async (place) => {
  const client = place.client();
  const source = randomBytes(6 * MIB);
  await send(client, "PutObject", place.at("from +ü", { Body: source }));
  const { UploadId } = await send(client, "CreateMultipartUpload", place.at("to"));
  const own = randomBytes(1000);
  const CopySource = encodeURI(`${place.bucket}/${place.prefix}from +ü`).replaceAll("+", "%2B");
  const copied = await send(
    client,
    "UploadPartCopy",
    place.at("to", { UploadId, PartNumber: 1, CopySource, CopySourceRange: `bytes=7-${5 * MIB + 6}` }),
  );
  const last = await send(client, "UploadPart", place.at("to", { UploadId, PartNumber: 2, Body: own }));
  const listed = await send(client, "ListParts", place.at("to", { UploadId }));
  const sizes = Object.fromEntries(listed.Parts.map((part) => [part.PartNumber, part.Size]));
  assert.deepEqual(sizes, { 1: 5 * MIB, 2: 1000 });
  const Parts = [
    { PartNumber: 1, ETag: copied.CopyPartResult.ETag },
    { PartNumber: 2, ETag: last.ETag },
  ];
  await send(client, "CompleteMultipartUpload", place.at("to", { UploadId, MultipartUpload: { Parts } }));
  const got = await bytesOf(await send(client, "GetObject", place.at("to")));
  assert.ok(Buffer.concat([source.subarray(7, 5 * MIB + 7), own]).equals(got));
  const other = await send(client, "CreateMultipartUpload", place.at("never"));
  await send(client, "AbortMultipartUpload", place.at("never", { UploadId: other.UploadId }));
  await fails(send(client, "GetObject", place.at("never")), s3.NoSuchKey, 404);
});

for (const virtual of [false, true]) {
  const where = virtual ? "host" : "path";
  for (const key of KEYS) {
    add(`key ${JSON.stringify(key)} with the bucket in the ${where}`, async (place) => {
      const client = place.client({ virtual });
      const body = Buffer.from(`<${key}>`);
      await send(client, "PutObject", place.at(key, { Body: body }));
      assert.ok(body.equals(await bytesOf(await send(client, "GetObject", place.at(key)))));
      const listed = await send(client, "ListObjectsV2", { Bucket: place.bucket, Prefix: place.prefix });
      assert.deepEqual(listed.Contents.map((item) => item.Key), [place.prefix + key]);
      const url = await getSignedUrl(client, new s3.GetObjectCommand(place.at(key)), { expiresIn: 60 });
      const signed = virtual ? null : await fetch(url);
      if (signed) assert.deepEqual([signed.status, await signed.text()], [200, `<${key}>`]);
      const Objects = [{ Key: place.prefix + key }];
      const gone = await send(client, "DeleteObjects", { Bucket: place.bucket, Delete: { Objects } });
      assert.deepEqual(gone.Deleted.map((item) => item.Key), [place.prefix + key]);
      assert.equal(gone.Errors, undefined);
    }, { gateway: virtual });
  }
}

add("listings page, group and encode", async (place) => {
  const client = place.client();
  const keys = ["a 1", "b+2", "c/3", "c/4", "d%5", "ü6"];
  for (const key of keys) await send(client, "PutObject", place.at(key, { Body: key }));
  const found = [];
  for (const EncodingType of [undefined, "url"]) {
    const pages = s3.paginateListObjectsV2(
      { client, pageSize: 2 },
      { Bucket: place.bucket, Prefix: place.prefix, EncodingType },
    );
    for await (const page of pages) found.push(...page.Contents.map((item) => item.Key));
  }
  const whole = keys.map((key) => place.prefix + key);
  assert.deepEqual(found.slice(0, 6), whole);
  assert.deepEqual(found.slice(6).map((key) => decodeURIComponent(key)), whole);
  const input = { Bucket: place.bucket, Prefix: place.prefix, Delimiter: "/" };
  for (const Command of ["ListObjects", "ListObjectsV2"]) {
    const grouped = await send(client, Command, input);
    assert.deepEqual(grouped.CommonPrefixes, [{ Prefix: `${place.prefix}c/` }]);
    assert.equal(grouped.Contents.length, 4);
  }
});

add("an object can be copied under a key that needs encoding", async (place) => {
  const client = place.client();
  const key = "from a+b/ü%.txt";
  await send(client, "PutObject", place.at(key, { Body: "copied", ContentType: "text/x-first" }));
  const CopySource = `${place.bucket}/${(place.prefix + key).split("/").map(encodeURIComponent).join("/")}`;
  await send(client, "CopyObject", place.at("to", { CopySource }));
  const got = await send(client, "GetObject", place.at("to"));
  assert.equal(await got.Body.transformToString(), "copied");
  const missing = `${place.bucket}/${place.prefix}missing`;
  await fails(send(client, "CopyObject", place.at("to", { CopySource: missing })), s3.NoSuchKey, 404);
});

add("metadata and headers come back as they were given", async (place) => {
  const client = place.client();
  const given = {
    ContentType: "text/x-suite; charset=utf-8",
    CacheControl: "max-age=60, no-transform",
    ContentDisposition: 'attachment; filename="a b.txt"',
    Metadata: { colour: "dark  blue", n: "1", empty: "" },
  };
  await send(client, "PutObject", place.at("o", { Body: "x", ...given }));
  for (const Command of ["HeadObject", "GetObject"]) {
    const answer = await send(client, Command, place.at("o"));
    answer.Body?.destroy?.();
    for (const name of ["ContentType", "CacheControl", "ContentDisposition"]) assert.equal(answer[name], given[name]);
    assert.equal(answer.Metadata.n, "1");
    assert.match(answer.Metadata.colour, /^dark +blue$/);
  }
});

add("ranges are 206, and 416 where there is nothing", async (place) => {
  const client = place.client();
  await send(client, "PutObject", place.at("o", { Body: "0123456789" }));
  for (const [Range, text, ContentRange] of [
    ["bytes=0-", "0123456789", "bytes 0-9/10"],
    ["bytes=2-4", "234", "bytes 2-4/10"],
    ["bytes=-3", "789", "bytes 7-9/10"],
    ["bytes=8-100", "89", "bytes 8-9/10"],
  ]) {
    const got = await send(client, "GetObject", place.at("o", { Range }));
    const seen = [got.$metadata.httpStatusCode, got.ContentRange, await got.Body.transformToString()];
    assert.deepEqual(seen, [206, ContentRange, text]);
  }
  await fails(send(client, "GetObject", place.at("o", { Range: "bytes=10-" })), "InvalidRange", 416);
});

add("conditions are the store's to judge", async (place) => {
  const client = place.client();
  const { ETag } = await send(client, "PutObject", place.at("o", { Body: "x" }));
  const get = (more) => send(client, "GetObject", place.at("o", more));
  assert.equal(await (await get({ IfMatch: ETag })).Body.transformToString(), "x");
  await fails(get({ IfMatch: '"other"' }), "PreconditionFailed", 412);
  const error = await get({ IfNoneMatch: ETag }).then(() => assert.fail("no 304"), (error) => error);
  assert.equal(error.$metadata.httpStatusCode, 304);
  const again = send(client, "PutObject", place.at("o", { Body: "y", IfNoneMatch: "*" }));
  await fails(again, "PreconditionFailed", 412);
  assert.equal(await (await get({})).Body.transformToString(), "x");
});

add("errors are the SDK's own classes", async (place) => {
  const client = place.client();
  await fails(send(client, "GetObject", place.at("none")), s3.NoSuchKey, 404);
  await fails(send(client, "HeadObject", place.at("none")), s3.NotFound, 404);
  const unknown = place.at("none", { UploadId: "2~0123456789abcdef", PartNumber: 1, Body: "x" });
  const error = await send(client, "UploadPart", unknown).then(() => assert.fail("accepted"), (error) => error);
  assert.ok(error.$metadata.httpStatusCode >= 400 && error.$metadata.httpStatusCode < 500, error.stack);
});

add(
  "an unknown bucket and an unknown upload have their error classes",
  async (place) => {
    const client = place.client();
    const nowhere = { Bucket: "no-such-bucket-anywhere" };
    await fails(send(client, "ListObjectsV2", nowhere), s3.NoSuchBucket, 404);
    await fails(send(client, "HeadBucket", nowhere), s3.NotFound, 404);
    const unknown = place.at("none", { UploadId: "2~0123456789abcdef" });
    await fails(send(client, "AbortMultipartUpload", unknown), s3.NoSuchUpload, 404);
  },
  { stores: ["rgw"] },
);

// WHEN_SUPPORTED adds the checksum of an empty body to the URL, and stores ignore it.
for (const checksums of ["WHEN_SUPPORTED", "WHEN_REQUIRED"]) {
  add(`presigned URLs write, read and delete, checksums ${checksums}`, async (place) => {
    const client = place.client({ checksums });
    const url = (Command, more = {}) =>
      getSignedUrl(client, new s3[`${Command}Command`](place.at("a b+ü", more)), { expiresIn: 60 });
    const put = await fetch(await url("PutObject", { ContentType: "text/x-signed" }), {
      method: "PUT",
      body: "presigned",
      headers: { "content-type": "text/x-signed" },
    });
    assert.equal(put.status, 200, await put.text());
    const got = await fetch(await url("GetObject", { ResponseContentType: "text/x-other" }));
    assert.deepEqual([got.status, got.headers.get("content-type")], [200, "text/x-other"]);
    assert.equal(await got.text(), "presigned");
    const head = await fetch(await url("HeadObject"), { method: "HEAD" });
    assert.deepEqual([head.status, head.headers.get("content-length")], [200, "9"]);
    assert.equal((await fetch(await url("DeleteObject"), { method: "DELETE" })).status, 204);
    assert.equal((await fetch(await url("GetObject"))).status, 404);
  });
}

add(
  "a presigned URL is valid for its operation only",
  async (place) => {
    const client = place.client();
    await send(client, "PutObject", place.at("o", { Body: "x" }));
    const url = await getSignedUrl(client, new s3.GetObjectCommand(place.at("o")), { expiresIn: 60 });
    assert.equal((await fetch(url, { method: "DELETE" })).status, 403);
    assert.equal((await fetch(url.replace("/o?", "/p?"))).status, 403);
    assert.match(await (await fetch(url.replace(/Expires=60/, "Expires=61"))).text(), /SignatureDoesNotMatch/);
  },
  { signed: true },
);

add(
  "a wrong secret and an unknown key are named",
  async (place) => {
    const wrong = place.client({ secret: "wrong" });
    const put = (client, Body) => send(client, "PutObject", place.at("o", { Body, ContentLength: 300_000 }));
    await fails(put(wrong, randomBytes(300_000)), "SignatureDoesNotMatch", 403);
    await fails(put(place.client({ keyId: "AKIANOBODY" }), randomBytes(300_000)), "InvalidAccessKeyId", 403);
    await fails(send(place.client(), "GetObject", place.at("o")), s3.NoSuchKey, 404);
  },
  { signed: true },
);

add(
  "a clock skew of an hour is corrected",
  async (place) => {
    const client = new s3.S3Client({
      endpoint: place.endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: place.keyId, secretAccessKey: place.secret },
      maxAttempts: 2,
      systemClockOffset: 3_600_000,
    });
    const put = await send(client, "PutObject", place.at("o", { Body: "x" }));
    assert.equal(put.$metadata.attempts, 2);
    const head = await send(client, "HeadObject", place.at("o"));
    assert.deepEqual([head.ContentLength, head.$metadata.attempts], [1, 1]);
  },
  { signed: true },
);
