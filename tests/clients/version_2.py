"""Requests signed with SigV2, POST forms, and heads without their bodies, for the comparison of gateway and store."""

import base64
import datetime
import email.utils
import hmac
import json
import socket
import time

from conversation import Answer, Conversation, encoded

#: The parameters that SigV2 signs.
SUB_RESOURCES = {"acl", "cors", "delete", "lifecycle", "location", "logging", "notification", "partNumber", "policy"}
SUB_RESOURCES |= {"requestPayment", "tagging", "torrent", "uploadId", "uploads", "versionId", "versioning", "versions"}
BOUNDARY = "----form-of-the-suite"


def now(seconds=0):
    """The current HTTP date."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def hmac_sha1(secret, text):
    return base64.b64encode(hmac.digest(secret.encode(), text, "sha1")).decode()


class Talk(Conversation):
    """A conversation with requests that may be signed with SigV2, and by another user."""

    def __init__(self, endpoint, keys, others=None):
        super().__init__(endpoint, keys)
        self.users = {"main": keys, **(others or {})}
        #: The policy that the next form shows.
        self.proved = ""

    def by(self, user):
        """Later requests are signed by this user."""
        self.keys = self.users[user]
        return self

    def old(self, method, path="", query="", headers=(), key_id=None, spoilt="", **options):
        """A request signed with SigV2 in its header; without a date header it gets the current one."""
        names = {name.lower() for name, _ in headers}
        dated = list(headers) if names & {"date", "x-amz-date"} else [*headers, ("Date", now())]
        signature = self._old_signature(method, path, query, dated)
        proof = ("Authorization", f"AWS {key_id or self.keys[0]}:{spoilt}{signature}")
        given = [header for header in dated if header[1] is not None]
        return self.ask(method, path, query, [*given, proof], signed=None, **options)

    def old_url(self, method, path="", query="", seconds=300, expires=None, key_id=None, spoilt="", signed_as=None, **options):
        """A URL presigned with SigV2."""
        expires = expires or str(int(time.time()) + seconds)
        signature = self._old_signature(signed_as or method, path, query, [("date", expires)])
        proof = f"AWSAccessKeyId={key_id or self.keys[0]}&Signature={encoded(spoilt + signature)}&Expires={encoded(expires)}"
        return self.ask(method, path, f"{query}&{proof}" if query else proof, signed=None, **options)

    def _old_signature(self, method, path, query, headers):
        values = {name.lower(): value or "" for name, value in headers}
        amz = "".join(f"{name}:{self._here(values[name]).decode()}\n" for name in sorted(values) if name.startswith("x-amz-"))
        date = "" if "x-amz-date" in values else values.get("date", "")
        signed = [pair for pair in query.split("&") if pair.split("=")[0] in SUB_RESOURCES or pair.startswith("response-")]
        resource = f"/{self.bucket}{path}" + ("?" + "&".join(sorted(signed)) if signed else "")
        text = f"{method}\n{values.get('content-md5', '')}\n{values.get('content-type', '')}\n{date}\n{amz}{resource}"
        return hmac_sha1(self.keys[1], text.encode())

    def form(self, fields, file=b"bar", own=False, **options):
        """A POST form: pairs of name and value in their order, then the file."""
        lines = []
        for name, value in [*fields, ("file", file)]:
            value = value if isinstance(value, bytes) else value.encode()
            more = b'; filename="f.txt"\r\nContent-Type: text/x-part' if name == "file" else b""
            lines.append(b'--%s\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % (BOUNDARY.encode(), name.encode(), more, value))
        body = b"".join([*lines, f"--{BOUNDARY}--\r\n".encode()])
        kind = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
        answer = self.ask("POST", "", headers=[kind], body=body, signed=None, own=own, **options)
        shown = [(name, value[:40]) for name, value in fields if name not in ("policy", "x-amz-credential", "x-amz-date")]
        _, recorded, known = self.steps.pop()
        self.steps.append((f"form {self.proved} {shown}, {len(file)} bytes", recorded, known))
        self.proved = ""
        self.note("the form leads to", answer.status == 303 and answer.header("location").replace(self.bucket, "BUCKET"))

    def policy(self, document, version):
        """The authentication fields of a form's policy, with either signature."""
        if version == 4 and isinstance(document, dict) and len(document.get("conditions", ())) > 1:
            fields = ("algorithm", "credential", "date")
            conditions = [*document["conditions"], *(["starts-with", f"$x-amz-{name}", ""] for name in fields)]
            document = {**document, "conditions": conditions}
        text = document if isinstance(document, str) else json.dumps(document)
        self.proved = text
        policy = base64.b64encode(text.replace("BUCKET", self.bucket).encode())
        if version == 2:
            return [("AWSAccessKeyId", self.keys[0]), ("policy", policy), ("signature", hmac_sha1(self.keys[1], policy))]
        stamp, scope = self._scope()
        key = f"AWS4{self.keys[1]}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        proof = [
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"),
            ("x-amz-credential", f"{self.keys[0]}/{scope}"),
            ("x-amz-date", stamp),
        ]
        return [*proof, ("policy", policy), ("x-amz-signature", hmac.digest(key, policy, "sha256").hex())]

    def first_answer(self, method, path, headers=(), length=123, own=False):
        """The status line after a head whose body is not sent."""
        host, _, port = self.place.partition(":")
        lines = [f"{method} /{self.bucket}{path} HTTP/1.1", f"Host: {self.place}", f"Content-Length: {length}"]
        lines += [f"{name}: {value}" for name, value in headers]
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            status = int(connection.recv(1024).split(b" ")[1])
        self.steps.append((f"{method} {path} {headers}, only its head", Answer(status, [], b""), own))

    def note(self, what, found, own=False):
        """Keeps a value from an answer that differs in other respects."""
        self.steps.append((what, Answer(0, [], repr(found).encode()), own))


def document(conditions=None, expiration=None, **more):
    """A form's policy."""
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    usual = [{"bucket": "BUCKET"}, ["starts-with", "$key", "foo"], {"acl": "private"}]
    usual += [["starts-with", "$Content-Type", "text/plain"], ["content-length-range", 0, 1024]]
    made = {"expiration": expiration or later.strftime("%Y-%m-%dT%H:%M:%SZ"), "conditions": usual if conditions is None else conditions}
    return made | more
