"""A test fixture, as people make them with testcontainers."""

import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import LogMessageWaitStrategy

SERVE = "mkdir /w; echo $WORD > /w/index.html; echo ready; exec busybox httpd -f -p 80 -h /w"

with Network() as network:
    server = (
        DockerContainer("busybox")
        .with_command(["sh", "-c", SERVE])
        .with_env("WORD", "served")
        .with_exposed_ports(80)
        .with_network(network)
        .with_network_aliases("server")
        .waiting_for(LogMessageWaitStrategy("ready"))
    )
    with server as one:
        url = f"http://127.0.0.1:{one.get_exposed_port(80)}/"
        assert urllib.request.urlopen(url).read() == b"served\n"
        code, out = one.exec(["cat", "/w/index.html"])
        assert (code, out) == (0, b"served\n"), (code, out)
        # It stays: their wait looks at the logs and then whether the container still runs, and either may come first.
        asking = ["sh", "-c", "busybox wget -q -O - http://server/ && echo asked; exec sleep 1000"]
        client = DockerContainer("busybox").with_command(asking).with_network(network)
        with client.waiting_for(LogMessageWaitStrategy("asked")) as other:
            assert b"served" in other.get_logs()[0]
print("all done")
