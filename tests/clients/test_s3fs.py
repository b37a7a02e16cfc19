"""fsspec's s3fs with aiobotocore, in a separate process and environment: it requires an older botocore."""

import json

from tool import AWKWARD, BIN, Tool, make_tree, read_tree

PROGRAM = r'''
import json, sys, urllib.request
import s3fs

place = json.load(sys.stdin)
fs = s3fs.S3FileSystem(key=place["key"], secret=place["secret"], endpoint_url=place["endpoint"])
base = place["base"]
for name in place["names"]:
    fs.pipe_file(f"{base}/{name}", name.encode())
assert sorted(fs.find(base)) == sorted(f"{base}/{name}" for name in place["names"]), fs.find(base)
assert fs.cat_file(f"{base}/plain.txt", start=2, end=5) == b"ain"
assert fs.info(f"{base}/plain.txt")["size"] == 9
assert place["bucket"] in fs.ls("")
body = bytes(range(256)) * (50 << 10)
with fs.open(f"{base}/big", "wb", block_size=5 << 20) as file:
    file.write(body)
with fs.open(f"{base}/big", "rb") as file:
    file.seek(5 << 20)
    assert file.read(1000) == body[5 << 20 : (5 << 20) + 1000]
fs.copy(f"{base}/big", f"{base}/copied ü+")
fs.mv(f"{base}/copied ü+", f"{base}/moved")
assert not fs.exists(f"{base}/copied ü+")
assert fs.cat_file(f"{base}/moved") == body
with urllib.request.urlopen(fs.sign(f"{base}/plain.txt", expiration=300)) as answer:
    assert answer.read() == b"plain.txt"
fs.put(place["up"], f"{base}/tree", recursive=True)
fs.get(f"{base}/tree", place["down"], recursive=True)
fs.rm(base, recursive=True)
fs.invalidate_cache()
assert fs.find(base) == [], fs.find(base)
'''


def test_s3fs(tool_target, prefix, tmp_path):
    """A9, A8, A1, V5, I2: pipe, find, ranges, parts, copy, move, a URL with default presigning, trees, delete."""
    files = make_tree(tmp_path / "up")
    settings = {
        "endpoint": tool_target.endpoint,
        "key": tool_target.keys[0],
        "secret": tool_target.keys[1],
        "bucket": tool_target.bucket,
        "base": f"{tool_target.bucket}/{prefix}s3fs",
        "names": AWKWARD,
        "up": str(tmp_path / "up"),
        "down": str(tmp_path / "down"),
    }
    python = Tool(tmp_path, [BIN.parent / "s3fs/bin/python", "-c", PROGRAM])
    python(stdin=json.dumps(settings).encode())
    assert read_tree(tmp_path / "down") == files
