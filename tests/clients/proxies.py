"""The proxies between clients and the gateway: nginx and HAProxy, each configured by a template."""

import os
import subprocess

from servers import STOP_SECONDS, await_port, clean_environment, free_port


def replaced(text, *pairs):
    """The text with the first part of each pair replaced by the second. A missing part is an error: the proxy would
    lack its setting."""
    for old, new in pairs:
        if old not in text:
            raise ValueError(f"no {old!r} in {text}")
        text = text.replace(old, new)
    return text


class FrontProxy:
    """A proxy in front of the gateway, configured by its own template."""

    template = ""
    #: A client address that only this proxy's tests use.
    greedy = ""
    #: What else the template is filled with.
    values = {}

    def __init__(self, directory, gateway):
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        self.directory = directory
        path = directory / "proxy.conf"
        values = {"DIRECTORY": directory, "PORT": port, "GATEWAY": gateway.removeprefix("http://"), **self.values}
        text = self.template
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path.write_text(text)
        self.output = directory / "output.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                self.command(path),
                env=clean_environment(PATH=f"{os.environ['PATH']}:/usr/sbin"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        await_port(self.process, port, self.output)

    def command(self, path):
        raise NotImplementedError

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=STOP_SECONDS)


class Nginx(FrontProxy):
    greedy = "127.0.1.1"
    template = """
daemon off;
worker_processes 1;
pid @DIRECTORY@/nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path @DIRECTORY@/body;
  proxy_temp_path @DIRECTORY@/proxy;
  fastcgi_temp_path @DIRECTORY@/fastcgi;
  uwsgi_temp_path @DIRECTORY@/uwsgi;
  scgi_temp_path @DIRECTORY@/scgi;
  server {
    listen 127.0.0.1:@PORT@;
    location / {
      proxy_pass http://@GATEWAY@;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }
    merge_slashes off;
  }
}
"""

    def command(self, path):
        return ["nginx", "-p", self.directory, "-c", path]


HAPROXY_DEFAULTS = """
global
  maxconn 100
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
"""


class Haproxy(FrontProxy):
    greedy = "127.0.2.1"
    template = HAPROXY_DEFAULTS + """frontend clients
  bind 127.0.0.1:@PORT@
  @FORWARD@
  default_backend gateway
backend gateway
  server gateway @GATEWAY@ @SEND@
"""
    #: How the client is named: in a header here.
    values = {"FORWARD": "option forwardfor", "SEND": ""}

    def command(self, path):
        return ["haproxy", "-db", "-f", path]


#: What CDNs, API gateways and balancers add to a request; none of it is signed.
CDN_HEADERS = {
    "X-Amz-Cf-Id": "5Zx-q_Y9vB3==",
    "X-Amz-Apigw-Id": "dGVzdA-QoEF=",
    "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
    "Via": "2.0 0123456789abcdef.cloudfront.net (CloudFront)",
    "Forwarded": "for=203.0.113.9;proto=https",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "cdn.example",
    "X-Forwarded-Port": "443",
    "X-Real-Ip": "203.0.113.9",
    "CloudFront-Viewer-Country": "DE",
    "CF-Connecting-IP": "203.0.113.9",
    "CF-Ray": "0123456789abcdef-FRA",
    "CDN-Loop": "cloudflare",
}


class NginxCdn(Nginx):
    """Forwards the client's Host unchanged, and adds the headers of a CDN."""

    template = replaced(
        Nginx.template,
        (
            "      proxy_set_header Host $host;\n      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n",
            "      proxy_set_header Host $http_host;\n      proxy_request_buffering off;\n      proxy_buffering off;\n      client_max_body_size 0;\n"
            + "".join(f"      proxy_set_header {name} '{value}';\n" for name, value in CDN_HEADERS.items()),
        ),
    )


class HaproxyCdn(Haproxy):
    """Adds the headers of a CDN."""

    values = {
        "FORWARD": "\n".join(f"  http-request set-header {name} '{value}'" for name, value in CDN_HEADERS.items()),
        "SEND": "",
    }


class HaproxyLine(Haproxy):
    """Sends the client's address in a PROXY line at the start of each connection."""

    greedy = "127.0.3.1"
    values = {"FORWARD": "", "SEND": "send-proxy"}


class HaproxyBlock(Haproxy):
    """The same in PROXY protocol version 2."""

    greedy = "127.0.4.1"
    values = {"FORWARD": "", "SEND": "send-proxy-v2"}


class Pair(FrontProxy):
    """A proxy in front of two gateways."""

    #: Seconds in which it must take a restarted gateway back.
    back_seconds = 2

    def __init__(self, directory, first, second):
        self.values = {"SECOND": second.removeprefix("http://")}
        super().__init__(directory, first)


class NginxBeforePair(Pair):
    """Has no health checks: a gateway that refuses connections is skipped for a second."""

    template = replaced(
        Nginx.template,
        (
            "  server {\n",
            """  upstream gateways {
    server @GATEWAY@ max_fails=1 fail_timeout=1s;
    server @SECOND@ max_fails=1 fail_timeout=1s;
    keepalive 8;
  }
  server {
""",
        ),
        ("proxy_pass http://@GATEWAY@;", 'proxy_pass http://gateways;\n      proxy_set_header Connection "";'),
    )

    command = Nginx.command


class HaproxyBeforePair(Pair):
    """Requests `/-/readyz` ten times a second and sends no more requests after the first 503."""

    template = HAPROXY_DEFAULTS + """  option redispatch
frontend clients
  bind 127.0.0.1:@PORT@
  default_backend gateways
backend gateways
  option httpchk GET /-/readyz
  http-check expect status 200
  default-server check inter 100ms fall 1 rise 1
  server first @GATEWAY@
  server second @SECOND@
"""

    command = Haproxy.command


class HaproxyAsUsual(Pair):
    """Checks once a second, and sends no more requests after two 503 in a row. It repeats no request with the other gateway."""

    back_seconds = 5
    template = replaced(
        HaproxyBeforePair.template,
        ("  option redispatch\n", "  retries 0\n"),
        ("inter 100ms fall 1 rise 1", "inter 1s fall 2"),
    )

    command = Haproxy.command
