"""Chapters of the comparison of gateway and store about buckets, listings and uploads in parts."""

from conversation import encoded, md5


def missing(talk):
    """E1, E2: missing buckets and objects, and invalid names."""
    for method in ("GET", "HEAD", "DELETE"):
        talk.ask(method, "/none")
    for method in ("GET", "HEAD", "PUT"):
        talk.ask(method, host="no-such-bucket-at-all.localhost", path="/o", body=b"x" if method == "PUT" else b"")
    talk.ask("GET", "/o", "uploadId=none")
    talk.ask("PUT", "/o", "partNumber=1&uploadId=none", body=b"x")
    talk.ask("PUT", "/o", "partNumber=0&uploadId=none", body=b"x")
    talk.ask("PUT", "/o", "partNumber=10001&uploadId=none", body=b"x")
    talk.ask("DELETE", "/o", "uploadId=none")
    talk.ask("POST", "/o", "uploadId=none", body=b"<CompleteMultipartUpload></CompleteMultipartUpload>")
    talk.ask("GET", "/none", "versionId=none")
    talk.ask("GET", "/none", "acl")
    talk.ask("GET", "/none", "tagging")
    for name in ("cors", "lifecycle", "policy", "tagging", "website", "encryption", "publicAccessBlock", "replication"):
        talk.ask("GET", "", name)
    talk.ask("PUT", "", body=b"<not xml")
    talk.ask("POST", "/o")
    talk.ask("DELETE", "/o", "tagging")


def listings(talk):
    """V5: both versions, grouped, encoded, paged, with a start key, and with invalid parameters."""
    for key in ["a%20b", "a%2Bb", "d/1", "d/2", "d/e/3", "%C3%BC", "%01control", "%26amp%3C", "z"]:
        talk.ask("PUT", f"/{key}", body=key.encode())
    queries = ["", "prefix=d/", "delimiter=/", "prefix=d/&delimiter=/", "delimiter=%0A", "delimiter=a", "prefix=none"]
    queries += ["encoding-type=url", "encoding-type=url&delimiter=/&prefix=d/", "encoding-type=none", "max-keys=2"]
    queries += ["max-keys=0", "max-keys=-1", "max-keys=many", "max-keys=2000", "max-keys=2&delimiter=/", "prefix=%C3%BC"]
    for query in queries:
        talk.ask("GET", "", query)
        talk.ask("GET", "", f"list-type=2&{query}")
    talk.ask("GET", "", "marker=d/1")
    talk.ask("GET", "", "marker=d/1&max-keys=1&encoding-type=url")
    talk.ask("GET", "", "list-type=2&start-after=d/1")
    talk.ask("GET", "", "list-type=2&fetch-owner=true")
    talk.ask("GET", "", "list-type=2&continuation-token=nonsense")
    page = talk.ask("GET", "", "list-type=2&max-keys=3")
    while token := page.element("NextContinuationToken"):
        page = talk.ask("GET", "", f"list-type=2&max-keys=3&continuation-token={encoded(token)}")
    talk.ask("HEAD")
    # The document holds the region of the gateway, not of the store.
    talk.ask("GET", "", "location", own=True)
    talk.ask("GET", "", "uploads")
    talk.ask("GET", "", "versions")


def multipart(talk):
    """E2: begin, upload parts, list, complete, abort, and invalid completions."""
    def begin(path, headers=()):
        return talk.ask("POST", path, "uploads", headers=headers).element("UploadId")

    def complete(path, upload, parts):
        listed = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>" for n, tag in parts)
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        return talk.ask("POST", path, f"uploadId={upload}", body=body)

    upload = begin("/big%20one", [("Content-Type", "text/x-parts"), ("x-amz-meta-kind", "parts")])
    big = bytes(range(256)) * (5 << 12)
    tags = [
        talk.ask("PUT", "/big%20one", f"partNumber={n}&uploadId={upload}", body=body).header("etag")
        for n, body in [(2, b"last"), (1, big)]
    ]
    talk.ask("GET", "/big%20one", f"uploadId={upload}")
    talk.ask("GET", "/big%20one", f"uploadId={upload}&max-parts=1")
    talk.ask("GET", "/big%20one", f"uploadId={upload}&part-number-marker=1")
    talk.ask("GET", "", "uploads")
    talk.ask("GET", "", "uploads&prefix=big&delimiter=/&max-uploads=1")
    complete("/big%20one", upload, [(1, '"00000000000000000000000000000000"')])
    complete("/big%20one", upload, [(2, tags[0]), (1, tags[1])])
    complete("/big%20one", upload, [(3, tags[0])])
    talk.ask("POST", "/big%20one", f"uploadId={upload}", body=b"not xml at all")
    complete("/big%20one", upload, [(1, tags[1]), (2, tags[0])])
    complete("/big%20one", upload, [(1, tags[1]), (2, tags[0])])
    talk.ask("HEAD", "/big%20one")
    talk.ask("HEAD", "/big%20one", "partNumber=1")
    talk.ask("GET", "/big%20one", "partNumber=2")
    talk.ask("GET", "/big%20one", headers=[("Range", "bytes=5242878-")])
    small = begin("/small")
    tags = [
        talk.ask("PUT", "/small", f"partNumber={n}&uploadId={small}", body=b"too small").header("etag") for n in (1, 2)
    ]
    complete("/small", small, [(1, tags[0]), (2, tags[1])])
    talk.ask("PUT", "/small", f"partNumber=3&uploadId={small}", headers=[("x-amz-copy-source", "/BUCKET/big%20one")])
    copied = [("x-amz-copy-source", "/BUCKET/big%20one"), ("x-amz-copy-source-range", "bytes=0-9")]
    talk.ask("PUT", "/small", f"partNumber=4&uploadId={small}", headers=copied)
    talk.ask("DELETE", "/small", f"uploadId={small}")
    talk.ask("DELETE", "/small", f"uploadId={small}")
    talk.ask("HEAD", "/small")


def tags_and_acls(talk):
    """E2: tags and access lists of objects and buckets."""
    tags = b"<Tagging><TagSet><Tag><Key>k 1</Key><Value>v&amp;1</Value></Tag></TagSet></Tagging>"
    talk.ask("PUT", "/o", headers=[("x-amz-tagging", "a=1&b=2%203")], body=b"x")
    talk.ask("GET", "/o", "tagging")
    talk.ask("PUT", "/o", "tagging", body=tags)
    talk.ask("GET", "/o", "tagging")
    talk.ask("GET", "/o")
    talk.ask("DELETE", "/o", "tagging")
    talk.ask("GET", "/o", "tagging")
    talk.ask("PUT", "/o", "tagging", body=b"<Tagging>")
    talk.ask("PUT", "", "tagging", body=tags)
    talk.ask("GET", "", "tagging")
    talk.ask("GET", "/o", "acl")
    talk.ask("PUT", "/o", "acl", headers=[("x-amz-acl", "public-read")])
    talk.ask("GET", "/o", "acl")
    talk.ask("PUT", "/o", "acl", headers=[("x-amz-acl", "nonsense")])
    talk.ask("PUT", "/o2", headers=[("x-amz-acl", "authenticated-read")], body=b"x")
    talk.ask("GET", "/o2", "acl")
    talk.ask("GET", "", "acl")
    policy = b'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::BUCKET/*"}]}'
    talk.ask("PUT", "", "policy", body=policy)
    talk.ask("GET", "", "policy")
    talk.ask("PUT", "", "policy", body=b"{nonsense")
    talk.ask("DELETE", "", "policy")
    rule = b"<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>"
    talk.ask("PUT", "", "cors", headers=[("Content-MD5", md5(rule))], body=rule)
    talk.ask("GET", "", "cors")
    rule = b"<LifecycleConfiguration><Rule><ID>r</ID><Prefix>x</Prefix><Status>Enabled</Status><Expiration><Days>9</Days></Expiration></Rule></LifecycleConfiguration>"
    talk.ask("PUT", "", "lifecycle", headers=[("Content-MD5", md5(rule))], body=rule)
    talk.ask("GET", "", "lifecycle")
    talk.ask("PUT", "", "lifecycle", body=rule)
    for query in ("versioning", "logging", "requestPayment", "object-lock", "notification", "nonsense"):
        talk.ask("GET", "", query)


def versions(talk):
    """E2: a bucket with versions: writes, reads by version, delete markers, permanent deletion."""
    talk.ask("GET", "", "versioning")
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    talk.ask("PUT", "", "versioning", body=body)
    talk.ask("GET", "", "versioning")
    first = talk.ask("PUT", "/o", body=b"one").header("x-amz-version-id")
    talk.ask("PUT", "/o", body=b"two")
    talk.ask("GET", "/o")
    talk.ask("GET", "/o", f"versionId={first}")
    talk.ask("HEAD", "/o", f"versionId={first}")
    talk.ask("GET", "", "versions")
    talk.ask("GET", "", "versions&prefix=o&max-keys=1")
    marker = talk.ask("DELETE", "/o").header("x-amz-version-id")
    talk.ask("GET", "/o")
    talk.ask("HEAD", "/o")
    talk.ask("GET", "/o", f"versionId={marker}")
    talk.ask("GET", "", "versions")
    talk.ask("PUT", "/copy", headers=[("x-amz-copy-source", f"/BUCKET/o?versionId={first}")])
    talk.ask("DELETE", "/o", f"versionId={marker}")
    talk.ask("GET", "/o")
    talk.ask("DELETE", "/o", f"versionId={first}")
    talk.ask("GET", "/o", f"versionId={first}")
    talk.ask("GET", "/o", "versionId=null")
    talk.ask("PUT", "", "versioning", body=body.replace(b"Enabled", b"Suspended"))
    talk.ask("PUT", "/o", body=b"three")


def several_deletes(talk):
    """E5: a list of keys: existing, missing, unusual, quiet, without Content-MD5, and no list at all."""
    for key in ("a%20b", "%26amp%3C", "%C3%BC", "c"):
        talk.ask("PUT", f"/{key}", body=b"x")

    def delete(body, headers=None, **options):
        talk.ask("POST", "", "delete", headers=[("Content-MD5", md5(body))] if headers is None else headers, body=body, **options)

    # One at a time: RGW reports several keys in no fixed order.
    for key in ("a b", "&amp;amp&lt;", "ü", "none"):
        delete(f"<Delete><Object><Key>{key}</Key></Object></Delete>".encode())
    delete(b"<Delete><Quiet>true</Quiet><Object><Key>c</Key></Object></Delete>")
    delete(b"<Delete><Object><Key>c</Key></Object></Delete>", headers=[])
    delete(b"<Delete></Delete>")
    talk.ask("GET", "")


def buckets(talk):
    """E2: created twice, created with an invalid request, not empty, removed."""
    talk.ask("PUT")
    talk.ask("HEAD")
    talk.ask("PUT", "/o", body=b"x")
    talk.ask("DELETE")
    talk.ask("DELETE", "/o")
    talk.ask("DELETE")
    talk.ask("DELETE")
    talk.ask("HEAD")
    talk.ask("GET")
    wrong = b"<CreateBucketConfiguration><LocationConstraint>nowhere-1</LocationConstraint></CreateBucketConfiguration>"
    talk.ask("PUT", body=wrong)
    talk.ask("PUT", headers=[("x-amz-acl", "public-read")])
    talk.ask("GET", "", "acl")
