// minio-js with endpoint and keys only: it sends GetBucketLocation and signs for the region in the answer.
// Throws at the first failed assertion.
//
//   node minio.js < place   the place as JSON: endpoint, bucket, keyId, secret, prefix
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";

import { Client, CopyConditions } from "minio";

const KEYS = ["plain", "a b+c", "100%", "sub dir/ü/日本", "it's (1)&=;"];

async function read(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

async function listed(client, bucket, prefix) {
  const names = [];
  for await (const item of client.listObjectsV2(bucket, prefix, true)) names.push(item.name);
  return names.sort();
}

async function objects(client, bucket, prefix) {
  for (const key of KEYS) await client.putObject(bucket, prefix + key, Buffer.from(key), key.length, { who: "me" });
  assert.deepEqual(await listed(client, bucket, prefix), KEYS.map((key) => prefix + key).sort());
  assert.equal((await client.statObject(bucket, prefix + "a b+c")).metaData.who, "me");
  assert.equal((await read(await client.getPartialObject(bucket, prefix + "plain", 2, 3))).toString(), "ain");
  await client.copyObject(bucket, prefix + "copied", `/${bucket}/${prefix}plain`, new CopyConditions());
  assert.equal((await read(await client.getObject(bucket, prefix + "copied"))).toString(), "plain");
  await assert.rejects(client.statObject(bucket, prefix + "none"), { code: "NotFound" });
  await client.removeObjects(bucket, await listed(client, bucket, prefix));
  assert.deepEqual(await listed(client, bucket, prefix), []);
}

async function parts(client, bucket, prefix) {
  const body = randomBytes((11 << 20) + 7);
  await client.putObject(bucket, prefix + "big", Readable.from(body.subarray(0)), body.length);
  assert.ok(body.equals(await read(await client.getObject(bucket, prefix + "big"))));
  await client.removeObject(bucket, prefix + "big");
}

async function urls(client, bucket, prefix) {
  const put = await fetch(await client.presignedPutObject(bucket, prefix + "a b", 300), { method: "PUT", body: "tide" });
  assert.equal(put.status, 200);
  assert.equal(await (await fetch(await client.presignedGetObject(bucket, prefix + "a b", 300))).text(), "tide");
  const policy = client.newPostPolicy();
  policy.setBucket(bucket);
  policy.setKey(prefix + "form");
  policy.setExpires(new Date(Date.now() + 300_000));
  const { formData, postURL } = await client.presignedPostPolicy(policy);
  const form = new FormData();
  for (const [name, value] of Object.entries(formData)) form.append(name, value);
  form.append("file", new Blob(["form"]), "f");
  assert.equal((await fetch(postURL, { method: "POST", body: form })).status, 204);
  assert.equal((await read(await client.getObject(bucket, prefix + "form"))).toString(), "form");
}

async function buckets(client, bucket, prefix) {
  const name = `${bucket}-${prefix.slice(2, -1)}`;
  assert.equal(await client.bucketExists(name), false);
  await client.makeBucket(name);
  assert.ok((await client.listBuckets()).some((each) => each.name === name));
  await client.removeBucket(name);
  assert.equal(await client.bucketExists(name), false);
}

let input = "";
for await (const piece of process.stdin) input += piece;
const { endpoint, bucket, keyId, secret, prefix } = JSON.parse(input);
const { hostname, port } = new URL(endpoint);
const client = new Client({ endPoint: hostname, port: Number(port), useSSL: false, accessKey: keyId, secretKey: secret });
for (const part of [objects, parts, urls, buckets]) await part(client, bucket, prefix);
