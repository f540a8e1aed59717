"""Exit code 0 if a service answers: healthcheck.py http://HOST:PORT/PATH | grpc://HOST:PORT

For containers: it imports next to nothing, where `dagster api grpc-health-check` would keep a core busy
for two seconds at each look.
"""

from __future__ import annotations

import sys
from urllib.parse import urlsplit
from urllib.request import urlopen

TIMEOUT_S = 4.0


def answers_http(url: str) -> bool:
    """A status below 400; urllib raises for the others."""
    with urlopen(url, timeout=TIMEOUT_S) as response:
        return bool(response.status < 400)


def answers_grpc(address: str) -> bool:
    """The code server's own health service says SERVING."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        request = health_pb2.HealthCheckRequest(service="DagsterApi")
        answer = stub.Check(request, timeout=TIMEOUT_S)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main(url: str) -> int:
    parts = urlsplit(url)
    try:
        healthy = answers_grpc(parts.netloc) if parts.scheme == "grpc" else answers_http(url)
    except Exception as error:  # whatever keeps it from answering is what is asked for
        sys.stderr.write(f"{url}: {error}\n")
        return 1
    return 0 if healthy else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
