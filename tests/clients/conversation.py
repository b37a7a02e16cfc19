"""One client's requests over HTTP, signed by hand, and the comparison of two servers' answers.

Requests are written exactly as sent: no SDK normalises a path or a header. Head and body of an answer are compared
completely; allowed differences are listed here with their reason.
"""

import base64
import dataclasses
import datetime
import hashlib
import hmac
import http.client
import re
import urllib.parse
import uuid

REGION = "us-east-1"

# Headers with values that depend on the connection or the request.
OF_THE_HOP = {
    "connection": "whether this connection stays open",
    "keep-alive": "how long the connection stays open",
    "transfer-encoding": "how this hop frames the body; its bytes are compared",
    "server": "names the program that spoke",
}
ADDED = {
    "x-request-id": "the gateway's name for the request, for its log",
    "x-tidegate-reason": "why the gateway itself refused; absent from answers of the store",
    "x-amz-bucket-region": "the region of the gateway, in answers to HEAD; RGW sends none",
}
# Compared by presence: the value is different each time.
FRESH = {
    "date": "a second may have passed",
    "last-modified": "the two objects were written one after the other",
    "x-amz-request-id": "each request has its own",
    "x-amz-id-2": "each request has its own",
    "x-amz-version-id": "the two objects are two",
    "x-amz-copy-source-version-id": "the two objects are two",
}
# The same within documents.
FRESH_ELEMENTS = ["RequestId", "HostId", "LastModified", "CreationDate", "Initiated", "UploadId", "VersionId"]
FRESH_ELEMENTS += ["UploadIdMarker", "NextUploadIdMarker", "NextVersionIdMarker", "DeleteMarkerVersionId", "VersionIdMarker"]
# The gateway's own answers have different messages in the same format.
OWN_DOCUMENT = re.compile(rb"<Code>(\w+)</Code>")


@dataclasses.dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name):
        return dict(self.headers).get(name)

    def element(self, name):
        found = re.search(rf"<{name}>(.*?)</{name}>".encode(), self.body, re.DOTALL)
        return found and found[1].decode()


def encoded(text, safe="-_.~"):
    return urllib.parse.quote(text, safe=safe)


def md5(body):
    return base64.b64encode(hashlib.md5(body).digest()).decode()


class Conversation:
    """A conversation with one server about one fresh bucket; the answers are kept in order."""

    def __init__(self, endpoint, keys):
        self.place = urllib.parse.urlsplit(endpoint).netloc
        self.keys = keys
        self.bucket = f"same-{uuid.uuid4().hex[:12]}"
        self.steps = []
        #: Of presigned URLs, in seconds.
        self.lifetime = "300"

    def ask(self, method, path="", query="", headers=(), body=b"", signed="header", host=None, own=False, whole=False):
        """`path` is below the bucket and already encoded, "" is the bucket itself; `own`: the gateway may answer it
        itself.

        `whole`: the path is the complete target. A text as `own` names a known difference.
        """
        host = host and host.replace("BUCKET", self.bucket)
        target = path.replace("BUCKET", self.bucket) if host or whole else f"/{self.bucket}{path}"
        headers = [(name.lower(), self._here(value)) for name, value in headers]
        body = self._here(body)
        headers.append(("host", host or self.place))
        query = self._here(query).decode()
        if signed == "header":
            headers += self._signature(method, target, query, headers, body)
        elif signed == "query":
            query = self._presigned(method, target, query, headers)
        answer = self._send(method, target + (f"?{query}" if query else ""), headers, body)
        step = f"{method} {path or '(bucket)'}{'?' + query.split('&X-Amz')[0] if query else ''} {headers[:2]}"
        self.steps.append((step, answer, own))
        return answer

    def _here(self, value):
        value = value if isinstance(value, bytes) else value.encode()
        return value.replace(b"BUCKET", self.bucket.encode())

    def _send(self, method, target, headers, body):
        connection = http.client.HTTPConnection(self.place, timeout=30)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        if body or method in ("PUT", "POST"):
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        headers = [(name.lower(), value) for name, value in response.getheaders()]
        answer = Answer(response.status, headers, response.read())
        connection.close()
        return answer

    def _scope(self):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        return now, f"{now[:8]}/{REGION}/s3/aws4_request"

    def _signed(self, method, target, query, covered, payload, now, scope):
        path = encoded(urllib.parse.unquote_to_bytes(target), safe="/-_.~")
        pairs = sorted(
            tuple(encoded(urllib.parse.unquote_to_bytes(part)) for part in (*pair.split("=", 1), "")[:2])
            for pair in query.split("&")
            if pair
        )
        names = sorted({name for name, _ in covered})
        lines = [
            name.encode() + b":" + b",".join(b" ".join(v.split()) for n, v in covered if n == name) for name in names
        ]
        request = b"\n".join(
            [
                method.encode(),
                path.encode(),
                "&".join(f"{name}={value}" for name, value in pairs).encode(),
                *lines,
                b"",
                ";".join(names).encode(),
                payload.encode(),
            ]
        )
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
        key = f"AWS4{self.keys[1]}".encode()
        for part in [*scope.split("/"), text]:
            key = hmac.digest(key, part.encode(), "sha256")
        return ";".join(names), key.hex()

    def _signature(self, method, target, query, headers, body):
        now, scope = self._scope()
        payload = hashlib.sha256(body).hexdigest()
        more = [("x-amz-date", now.encode()), ("x-amz-content-sha256", payload.encode())]
        covered = [
            (name, value if isinstance(value, bytes) else value.encode())
            for name, value in headers + more
            if name == "host" or name.startswith("x-amz-")
        ]
        names, signature = self._signed(method, target, query, covered, payload, now, scope)
        credential = f"AWS4-HMAC-SHA256 Credential={self.keys[0]}/{scope}"
        return [*more, ("authorization", f"{credential}, SignedHeaders={names}, Signature={signature}")]

    def _presigned(self, method, target, query, headers):
        now, scope = self._scope()
        host = [(name, value.encode()) for name, value in headers if name == "host"]
        credential = encoded(f"{self.keys[0]}/{scope}")
        query += "&" * bool(query) + (
            f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}"
            f"&X-Amz-Date={now}&X-Amz-Expires={self.lifetime}&X-Amz-SignedHeaders=host"
        )
        _, signature = self._signed(method, target, query, host, "UNSIGNED-PAYLOAD", now, scope)
        return f"{query}&X-Amz-Signature={signature}"

    def comparable(self):
        """The parts that two conversations with the same requests must have in common, step by step."""
        return [(step.replace(self.bucket, "BUCKET"), self._comparable(answer, own)) for step, answer, own in self.steps]

    def _comparable(self, answer, own):
        if own is True:
            return {"status": answer.status, "code": OWN_DOCUMENT.findall(answer.body)}
        headers = []
        for name, value in answer.headers:
            if name in OF_THE_HOP or name in ADDED:
                continue
            value = "(fresh)" if name in FRESH else value
            if name == "content-length" and answer.body:
                # The names of the bucket and the server have different lengths; the body itself is compared.
                value = "(as long as the body)" if int(value) == len(answer.body) else value
            headers.append((name, self._neutral(value.encode("latin-1"))))
        body = self._neutral(answer.body)
        for name in FRESH_ELEMENTS:
            body = re.sub(rf"<{name}>[^<]+</{name}>".encode(), f"<{name}>(fresh)</{name}>".encode(), body)
        return {"status": answer.status, "headers": sorted(headers), "body": body}

    def _neutral(self, text):
        return text.replace(self.bucket.encode(), b"BUCKET").replace(self.place.encode(), b"PLACE")


def describe(step, store, gateway):
    """The differences of one step as lines of text."""
    lines = [f"-- {step}"]
    for name in store:
        if store[name] == gateway[name]:
            continue
        if name == "headers":
            lines += [f"   the store alone: {line}" for line in store[name] if line not in gateway[name]]
            lines += [f"   the gateway alone: {line}" for line in gateway[name] if line not in store[name]]
        else:
            lines.append(f"   {name} of the store {store[name]!r:.600} of the gateway {gateway[name]!r:.600}")
    return "\n".join(lines)
