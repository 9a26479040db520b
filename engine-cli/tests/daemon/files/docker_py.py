"""What people do with docker-py: every assertion is a promise of Docker's API."""

import io
import json
import tarfile
import threading
import time

import docker
from docker import errors, types

client = docker.from_env(timeout=60)
api = client.api


def step(name):
    print("step:", name, flush=True)


def until(what, done):
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, "waited in vain: " + what
        time.sleep(0.02)


step("system")
assert client.ping()
assert client.version()["ApiVersion"]
info = client.info()
assert info["OSType"] == "linux" and info["Images"] == 1, info
assert client.df()["Images"]

step("run")
assert client.containers.run("busybox", ["echo", "hello"], remove=True, network_mode="none") == b"hello\n"
try:
    client.containers.run("busybox", ["sh", "-c", "echo bad >&2; exit 3"], remove=True, network_mode="none")
    raise AssertionError("it failed, and nobody said so")
except errors.ContainerError as error:
    assert error.exit_status == 3 and b"bad" in error.stderr, error
try:
    client.containers.run("no-such-image-anywhere:1", "true")
    raise AssertionError("there is no such image")
except (errors.ImageNotFound, errors.APIError) as error:
    assert "no-such-image-anywhere" in str(error), error

step("life")
box = client.containers.run(
    "busybox",
    ["sh", "-c", "trap 'exit 9' TERM; echo started; while :; do sleep 0.1; done"],
    detach=True,
    name="box",
    environment={"COLOUR": "red"},
    labels={"tier": "test"},
    mem_limit="64m",
    working_dir="/tmp",
    network_mode="none",
)
assert box.status == "created" and box.name == "box"
box.reload()
assert box.status == "running", box.status
assert box.attrs["HostConfig"]["Memory"] == 64 << 20
assert box.attrs["Config"]["Env"].count("COLOUR=red") == 1
assert [c.name for c in client.containers.list(filters={"label": "tier=test"})] == ["box"]
assert client.containers.list(filters={"label": "tier=other"}) == []
until("it writes", lambda: box.logs() == b"started\n")
assert list(box.logs(stream=True, follow=False, tail=1)) == [b"started\n"]
assert box.logs(timestamps=True).split(b" ")[1] == b"started\n"
stats = box.stats(stream=False)
assert stats["memory_stats"]["usage"] > 0, stats
assert len(box.top()["Processes"]) >= 1
box.pause()
box.reload()
assert box.status == "paused"
box.unpause()
box.rename("crate")
assert client.containers.get("crate").id == box.id
box.update(mem_limit="96m", memswap_limit="96m")
box.reload()
assert box.attrs["HostConfig"]["Memory"] == 96 << 20

step("exec")
code, out = box.exec_run(["sh", "-c", "echo $COLOUR $PWD; exit 4"])
assert (code, out) == (4, b"red /tmp\n"), (code, out)
code, (out, err) = box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True)
assert (code, out, err) == (0, b"o\n", b"e\n")
assert b"".join(box.exec_run(["busybox", "seq", "3"], stream=True).output) == b"1\n2\n3\n"
made = api.exec_create(box.id, ["cat"], stdin=True, tty=False)
raw = api.exec_start(made["Id"], socket=True)
raw._sock.sendall(b"through\n")
raw._sock.shutdown(1)
frame = b""
while piece := raw._sock.recv(4096):
    frame += piece
assert frame[8:] == b"through\n" and frame[0] == 1, frame
assert api.exec_inspect(made["Id"])["ExitCode"] == 0

step("files")
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as archive:
    entry = tarfile.TarInfo("note.txt")
    entry.size = 4
    archive.addfile(entry, io.BytesIO(b"text"))
assert box.put_archive("/tmp", packed.getvalue())
pieces, stat = box.get_archive("/tmp/note.txt")
assert stat["size"] == 4 and stat["name"] == "note.txt", stat
with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as archive:
    assert archive.extractfile("note.txt").read() == b"text"
assert {"Path": "/tmp/note.txt", "Kind": 1} in box.diff(), box.diff()
assert len(b"".join(box.export())) > 100_000

step("attach")
talker = client.containers.create("busybox", ["cat"], stdin_open=True, network_mode="none")
raw = talker.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
talker.start()
raw._sock.sendall(b"echoed\n")
assert raw._sock.recv(4096)[8:] == b"echoed\n"
raw.close()
talker.remove(force=True)

step("wait and end")
waited = {}
thread = threading.Thread(target=lambda: waited.update(box.wait()))
thread.start()
box.stop(timeout=10)
thread.join()
assert waited["StatusCode"] == 9, waited
box.start()
box.kill()
assert box.wait()["StatusCode"] == 137
box.restart(timeout=0)
box.reload()
assert box.status == "running"
try:
    box.remove()
    raise AssertionError("it runs")
except errors.APIError as error:
    assert error.status_code == 409, error
box.remove(force=True)
try:
    client.containers.get("crate")
    raise AssertionError("it is gone")
except errors.NotFound:
    pass

step("events")
since = int(time.time()) - 60
seen = [e["Action"] for e in client.events(since=since, until=int(time.time()) + 1, filters={"container": "crate"}, decode=True)]
assert "destroy" in seen and "die" in seen, seen

step("images")
image = client.images.get("busybox")
assert image.tag("registry.example/copy", "1.0")
assert "registry.example/copy:1.0" in client.images.get("busybox").tags
saved = b"".join(image.save(named=True))
client.images.remove("registry.example/copy:1.0")
client.images.remove("busybox", force=True)
assert client.images.list() == []
loaded = client.images.load(saved)
assert loaded and client.images.get("busybox").id == image.id
assert client.images.get("busybox").history()
changed = client.containers.create("busybox", "true", network_mode="none")
committed = changed.commit("committed", "now", changes=["CMD [\"echo\", \"made\"]"])
assert client.containers.run(committed.id, remove=True, network_mode="none") == b"made\n"
changed.remove()
client.images.remove("committed:now")

step("volumes")
volume = client.volumes.create("data", labels={"kind": "test"})
client.containers.run("busybox", ["sh", "-c", "echo kept > /data/file"], volumes={"data": {"bind": "/data", "mode": "rw"}}, remove=True, network_mode="none")
read = client.containers.run("busybox", ["cat", "/data/file"], mounts=[types.Mount("/data", "data", read_only=True)], remove=True, network_mode="none")
assert read == b"kept\n"
assert [v.name for v in client.volumes.list(filters={"label": "kind=test"})] == ["data"]
volume.remove()
assert client.volumes.list() == []

step("networks")
network = client.networks.create("web", driver="bridge", ipam=types.IPAMConfig(pool_configs=[types.IPAMPool(subnet="10.99.1.0/24")]))
server = client.containers.run("busybox", ["sh", "-c", "mkdir /www; echo page > /www/index.html; exec busybox httpd -f -p 80 -h /www"], detach=True, name="server", network="web", ports={"80/tcp": None})
server.reload()
assert server.attrs["NetworkSettings"]["Networks"]["web"]["IPAddress"].startswith("10.99.1.")
assert int(server.ports["80/tcp"][0]["HostPort"]) > 0, server.ports
page = client.containers.run("busybox", ["sh", "-c", "until busybox wget -q -O - http://server/; do sleep 0.1; done"], network="web", remove=True)
assert page == b"page\n", page
late = client.containers.run("busybox", ["sleep", "100"], detach=True, network_mode="none")
late.remove(force=True)
late = client.containers.run("busybox", ["sleep", "100"], detach=True)
network.connect(late, aliases=["late"])
network.reload()
assert {c.name for c in network.containers} == {"server", late.name}
network.disconnect(late)
for one in (late, server):
    one.remove(force=True)
network.remove()

step("prune")
client.containers.create("busybox", "true", network_mode="none")
assert len(client.containers.prune()["ContainersDeleted"]) == 1
print("all done")
