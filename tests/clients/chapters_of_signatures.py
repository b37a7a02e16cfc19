"""Chapters of the comparison of gateway and store about SigV2, the lifetime of URLs, and forms."""

from conversation import md5
from version_2 import document, now


def version_2_headers(talk):
    """A8: objects, sub-resources, copies and lists; a wrong signature, an unknown key, an unusual Content-MD5 or
    User-Agent."""
    talk.old("PUT", "/o%20%C3%BC", headers=[("Content-Type", "text/x"), ("x-amz-meta-b", "2"), ("x-amz-meta-a", "1")], body=b"old")
    for method in ("GET", "HEAD"):
        talk.old(method, "/o%20%C3%BC")
        talk.old(method, "/o%20%C3%BC", headers=[("x-amz-date", now())])
    talk.old("GET", "/o%20%C3%BC", headers=[("Range", "bytes=1-1")])
    talk.old("GET", "/none")
    talk.old("GET")
    talk.old("GET", "", "prefix=o&max-keys=1")
    talk.old("GET", "", "uploads")
    talk.old("GET", "", "versions")
    talk.old("GET", "", "acl")
    talk.old("GET", "/o%20%C3%BC", "acl")
    talk.old("PUT", "/o%20%C3%BC", "tagging", body=b"<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>")
    talk.old("GET", "/o%20%C3%BC", "tagging")
    talk.old("GET", "/o%20%C3%BC", "response-content-type=text/y")
    talk.old("PUT", "/copy", headers=[("x-amz-copy-source", "/BUCKET/o%20%C3%BC")])
    upload = talk.old("POST", "/parts", "uploads").element("UploadId")
    tag = talk.old("PUT", "/parts", f"partNumber=1&uploadId={upload}", body=b"part").header("etag")
    done = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part></CompleteMultipartUpload>"
    talk.old("POST", "/parts", f"uploadId={upload}", body=done.encode())
    body = b"<Delete><Object><Key>parts</Key></Object></Delete>"
    talk.old("POST", "", "delete", headers=[("Content-MD5", md5(body))], body=body)
    talk.old("GET", "/copy", spoilt="x", own=True)
    talk.old("GET", "/copy", key_id="nobody", own=True)
    talk.old("PUT", "/o", headers=[("Content-MD5", "AWS HAHAHA")], body=b"x", own=True)
    talk.old("PUT", "/o", headers=[("User-Agent", "")], body=b"x")
    talk.old("PUT", "/o", headers=[("Content-MD5", md5(b"x"))], body=b"x")
    talk.old("DELETE", "/o")


def version_2_dates(talk):
    """A8: dates that are invalid, missing, long past, before the epoch, far ahead; in either header, for objects and
    buckets."""
    dates = ["Bad Date", "", "Tue, 07 Jul 2010 21:53:04 GMT", "Tue, 07 Jul 1950 21:53:04 GMT"]
    dates += ["Tue, 07 Jul 2030 21:53:04 GMT", "Tue, 07 Jul 9999 21:53:04 GMT", now(-1200), now(1200)]
    for date in dates:
        for name in ("x-amz-date", "Date"):
            talk.old("PUT", "/o", headers=[(name, date)], body=b"x", own=True)
            talk.old("PUT", headers=[(name, date)], own=True)
    for seconds in (-600, 600):
        talk.old("PUT", "/o", headers=[("Date", now(seconds))], body=b"x")
    talk.old("PUT", "/o", headers=[("Date", None)], body=b"x", own=True)


def version_2_urls(talk):
    """A8: URLs for write, read, head and delete; expired, far ahead, changed; overrides of response headers."""
    talk.old_url("PUT", "/o", body=b"presigned")
    for seconds in (300, 100_000, 609_901):
        talk.old_url("GET", "/o", seconds=seconds)
    talk.old_url("HEAD", "/o")
    talk.old_url("GET", "/o", "response-content-type=text/z&response-cache-control=no-cache")
    talk.old_url("GET", "/none")
    for method in ("GET", "PUT"):
        talk.old_url(method, "/o", seconds=-1000, own=True)
    for expires in ("soon", "-5", "0"):
        talk.old_url("GET", "/o", expires=expires, own=True)
    talk.old_url("GET", "/o", spoilt="x", own=True)
    talk.old_url("GET", "/o", key_id="nobody", own=True)
    talk.old_url("DELETE", "/o", signed_as="GET", own=True)
    talk.old_url("DELETE", "/o")


def expiry_of_version_4(talk):
    """A1: URLs with a lifetime that is negative, zero, or above a week."""
    talk.ask("PUT", "/o", body=b"x")
    for seconds in ("-1000", "-7", "0", "604801", "609901"):
        talk.lifetime = seconds
        talk.ask("GET", "/o", signed="query", own="code of a lifetime")
        talk.ask("PUT", "/o", body=b"x", signed="query", own="code of a lifetime")


def forms(talk, version):
    """A1, A8, A5: valid forms, and each kind of invalid form."""

    def send(given=None, fields=(), file=b"bar", first=None, own=False, replaced=None):
        policy = talk.policy(document() if given is None else given, version)
        policy = [(name, (replaced or {}).get(name, value)) for name, value in policy]
        policy = [field for field in policy if field[1] is not None]
        talk.form([*(usual if first is None else first), *policy, *fields], file, own="code of a form" if own else "reply of a form")

    signature, key = ("signature", "AWSAccessKeyId") if version == 2 else ("x-amz-signature", "x-amz-credential")
    usual = [("key", "foo.txt"), ("acl", "private"), ("Content-Type", "text/plain")]
    conditions = document()["conditions"]
    send()
    talk.ask("GET", "/foo.txt")
    send(document([{"bucket": "BUCKET"}, ["starts-with", "$key", "foo"], {"acl": "private"}]), first=usual[:2])
    send(document([*conditions[:4], ["content-length-range", 0, 5 << 20]]), file=b"foo" * (1 << 20))
    send(document([*conditions[:4], ["content-length-range", 4 << 20, 12 << 20]]), file=b"x" * ((4 << 20) + 200))
    send(first=[("key", "foo-${filename}"), *usual[1:]])
    talk.ask("HEAD", "/foo-f.txt")
    send(fields=[("x-ignore-foo", "bar")])
    lower = [{"bUcKeT": "BUCKET"}, ["StArTs-WiTh", "$KeY", "foo"], {"AcL": "private"}]
    lower += [["StArTs-WiTh", "$CoNtEnT-TyPe", "text/plain"], ["content-length-range", 0, 1024]]
    send(document(lower), first=[("kEy", "foo.txt"), ("aCl", "private"), ("Content-Type", "text/plain")])
    escaped = [conditions[0], ["starts-with", "$key", "\\$foo"], *conditions[2:]]
    send(document(escaped), first=[("key", "\\$foo.txt"), *usual[1:]])
    for status in ("200", "201", "204", "404"):
        send(document([*conditions, {"success_action_status": status}]), fields=[("success_action_status", status)])
    page = "http://pages.example/done"
    send(document([*conditions, ["eq", "$success_action_redirect", page]]), fields=[("success_action_redirect", page)])
    send(document([*conditions, ["starts-with", "$x-amz-meta-foo", "bar"]]), fields=[("x-amz-meta-foo", "barclamp")])
    talk.ask("HEAD", "/foo.txt")
    tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>0</Value></Tag><Tag><Key>1</Key><Value>1</Value></Tag></TagSet></Tagging>"
    send(document([*conditions, ["starts-with", "$tagging", ""]]), fields=[("tagging", tags)])
    talk.ask("GET", "/foo.txt", "tagging")
    # The gateway refuses each of the following forms before it connects to the store.
    send(own=True, replaced={signature: "bm8="if version == 2 else "00"})
    send(own=True, replaced={signature: None})
    send(own=True, replaced={key: "nobody" if version == 2 else talk.policy(document(), 4)[1][1].replace(talk.keys[0], "nobody")})
    send(own=True, first=usual[1:])
    send(own=True, first=[("key", "bar.txt"), *usual[1:]])
    send(own=True, first=[usual[0], ("acl", "public-read"), usual[2]])
    send(document(conditions[:4] + [["content-length-range", 0, 2]]), own=True)
    send(document(conditions[:4] + [["content-length-range", 512, 1000]]), own=True)
    send(document(conditions[:4] + [["content-length-range", 0]]), own=True)
    send(document(conditions[:4] + [["content-length-range", -1, 0]]), own=True)
    send(document([{"bucket": "another-bucket"}, *conditions[1:]]), own=True)
    send(document([*conditions, ["starts-with", "$x-amz-meta-foo", "bar"]]), own=True)
    send(document([*conditions, {"x-amz-meta-foo": "other"}]), fields=[("x-amz-meta-foo", "barclamp")], own=True)
    send(fields=[("x-amz-meta-foo", "barclamp")], own=True)
    for expiration in ("2010-01-01T00:00:00Z", "2037-01-01 00:00:00+00:00", "tomorrow"):
        send(document(expiration=expiration), own=True)
    whole = document()
    send({"EXPIRATION": whole["expiration"], "conditions": whole["conditions"]}, own=True)
    send({"expiration": whole["expiration"], "CONDITIONS": whole["conditions"]}, own=True)
    send({"conditions": whole["conditions"]}, own=True)
    send({"expiration": whole["expiration"]}, own=True)
    send(document([]), own=True)
    send(document([{}]), own=True)
    send("{nonsense", own=True)
    talk.ask("GET")


def forms_of_version_2(talk):
    """A8: forms with a policy signed by SigV2."""
    forms(talk, 2)


def forms_of_version_4(talk):
    """A1: forms with a policy signed by SigV4."""
    forms(talk, 4)


def anonymous_forms(talk):
    """A4: forms without a policy, to a publicly writable bucket and to another one."""
    fields = [("key", "foo.txt"), ("acl", "public-read"), ("Content-Type", "text/plain")]
    talk.form(fields, own="reply of a form")
    talk.ask("PUT", "", "acl", headers=[("x-amz-acl", "public-read-write")])
    talk.form(fields, own="reply of a form")
    tags = "<Tagging><TagSet><Tag><Key>0</Key><Value>0</Value></Tag><Tag><Key>1</Key><Value>1</Value></Tag></TagSet></Tagging>"
    talk.form([*fields, ("tagging", tags)], own="reply of a form")
    talk.ask("GET", "/foo.txt", "tagging")
    talk.form([*fields, ("success_action_redirect", "http://pages.example/")], own="reply of a form")
    talk.form([("key", "with type"), ("acl", "public-read")], own="reply of a form")
    talk.ask("GET", "/foo.txt", signed=None)
    talk.ask("HEAD", "/with%20type", signed=None)
