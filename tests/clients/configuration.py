"""The gateway's configuration for the suites: bucket sections, client keys and policies as TOML text."""

import json

#: Every method of a policy.
ALL = ("read", "write", "delete", "list", "configure")
#: The methods that change no setting of a bucket.
DATA = ("read", "write", "delete", "list")


def section(name, store, *, pattern=None, auth=("sigv4",), bucket=None, keys=None, more="", upstream=""):
    """The bucket section `name` in front of a store, which is a server, a target or an endpoint.

    `keys`: the key pair for the store instead of the store's own, `()` for none. `auth=()`: no `auth` at all. `more`:
    further lines of the section. `upstream`: further lines of its `s3` table.
    """
    lines = [f"[buckets.{name}]"]
    lines += [f"pattern = {_toml(pattern)}"] * (pattern is not None)
    lines += [f"auth = {_toml(auth)}"] * bool(auth)
    lines += [more, f"[buckets.{name}.s3]", f"endpoints = {_toml([getattr(store, 'endpoint', store)])}"]
    lines += [f"bucket = {_toml(bucket)}"] * (bucket is not None)
    if pair := _keys_of(store) if keys is None else keys:
        lines += [f"access_key_id = {_toml(pair[0])}", f"secret_access_key = {_toml(pair[1])}"]
    return _text(*lines, upstream)


def key(pair, policy="all", **settings):
    """A client key, `pair` of ID and secret; `settings` are further values of its table."""
    values = {"secret": pair[1], "policy": policy, **settings}
    return _text(f"[keys.{pair[0]}]", *(f"{name} = {_toml(value)}" for name, value in values.items()))


def policy(name="all", buckets=("*",), methods=ALL, prefixes=()):
    """A policy; without `prefixes` it applies to every key of the buckets."""
    values = {"buckets": buckets, "methods": methods} | ({"prefixes": prefixes} if prefixes else {})
    return _text(f"[policies.{name}]", *(f"{name} = {_toml(value)}" for name, value in values.items()))


def before_all(store, pair, **options):
    """One section for buckets of any name, and a key with all rights; `options` are those of `section`."""
    return section("every", store, **{"pattern": "*", **options}) + key(pair) + policy()


def both_stores(origin, rgw, bucket, auth=("sigv4",)):
    """The bucket `at-origin` in front of the embedded origin, and `at-rgw`, which is `bucket` of RGW."""
    return section("at-origin", origin, bucket="demo", auth=auth) + section("at-rgw", rgw, bucket=bucket, auth=auth)


def _keys_of(store):
    """The key pair of a server; the gateway with its embedded origin needs none."""
    if hasattr(store, "keys"):
        return store.keys
    return (store.access_key_id, store.secret_access_key) if hasattr(store, "access_key_id") else ()


def _toml(value):
    """Strings and lists of strings have the same form in JSON and in TOML."""
    return json.dumps(value, ensure_ascii=False)


def _text(*lines):
    return "".join(f"{line}\n" for line in lines if line)
