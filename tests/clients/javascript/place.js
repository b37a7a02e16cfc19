// The place of a case: an endpoint, a bucket, a private prefix, and clients with one attempt, so that no retry hides the
// behaviour of the gateway.
import assert from "node:assert/strict";
import http from "node:http";

import { S3Client } from "@aws-sdk/client-s3";

// Many systems resolve `localhost` but no name below it.
const toLoopback = (_host, options, done) =>
  options.all ? done(null, [{ address: "127.0.0.1", family: 4 }]) : done(null, "127.0.0.1", 4);

export class Place {
  constructor(settings, name) {
    Object.assign(this, settings);
    this.prefix = `${settings.prefix}${name}/`;
  }

  client({ checksums = "WHEN_SUPPORTED", virtual = false, keyId = this.keyId, secret = this.secret } = {}) {
    const endpoint = virtual ? this.endpoint.replace("127.0.0.1", "localhost") : this.endpoint;
    return new S3Client({
      endpoint,
      region: "us-east-1",
      forcePathStyle: !virtual,
      credentials: { accessKeyId: keyId, secretAccessKey: secret },
      maxAttempts: 1,
      requestChecksumCalculation: checksums,
      responseChecksumValidation: checksums,
      requestHandler: { httpAgent: new http.Agent({ keepAlive: true, lookup: toLoopback }) },
    });
  }

  // What most operations name.
  at(key, more = {}) {
    return { Bucket: this.bucket, Key: this.prefix + key, ...more };
  }
}

export async function bytesOf(answer) {
  return Buffer.from(await answer.Body.transformToByteArray());
}

// Fails unless the promise fails with this error: a class of the SDK or a name, and a status.
export async function fails(promise, kind, status) {
  const error = await promise.then(
    () => assert.fail("it was accepted"),
    (error) => error,
  );
  if (typeof kind === "string") assert.equal(error.name, kind, error.stack);
  else assert.ok(error instanceof kind, `${error.name} is no ${kind.name}: ${error.stack}`);
  assert.equal(error.$metadata?.httpStatusCode, status, error.stack);
  return error;
}
