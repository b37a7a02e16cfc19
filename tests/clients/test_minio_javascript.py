"""minio-js with its defaults: javascript/minio.js; `npm ci` in javascript/ installs its package."""

import json

import servers
from tool import Tool


def test_minio_js(tool_target, prefix, tmp_path):
    """A9, A1, V5, I2: objects, ranges, copies, parts, presigned URLs, a form, a bucket."""
    settings = {
        "endpoint": tool_target.endpoint,
        "bucket": tool_target.bucket,
        "keyId": tool_target.keys[0],
        "secret": tool_target.keys[1],
        "prefix": prefix,
    }
    node = Tool(tmp_path, ["node", servers.HERE / "javascript/minio.js"])
    node(stdin=json.dumps(settings).encode())
