// A test fixture, as people make them with testcontainers for Node.

const assert = require("node:assert");
const { GenericContainer, Network, Wait } = require("testcontainers");

const SERVE = "mkdir /w; echo $WORD > /w/index.html; echo ready; exec busybox httpd -f -p 80 -h /w";

async function main() {
  // What testcontainers reads of a log keeps no program alive.
  const alive = setInterval(() => {}, 1000);
  const network = await new Network().start();
  const server = await new GenericContainer("busybox")
    .withCommand(["sh", "-c", SERVE])
    .withEnvironment({ WORD: "served" })
    .withLabels({ purpose: "test" })
    .withExposedPorts(80)
    .withNetwork(network)
    .withNetworkAliases("server")
    .withCopyContentToContainer([{ content: "copied", target: "/etc/copied" }])
    .withTmpFs({ "/scratch": "rw" })
    .withHealthCheck({ test: ["CMD", "test", "-f", "/w/index.html"], interval: 200, timeout: 5000, retries: 100 })
    .withWaitStrategy(Wait.forAll([
      Wait.forLogMessage("ready"),
      Wait.forListeningPorts(),
      Wait.forHealthCheck(),
      Wait.forHttp("/", 80),
    ]))
    .start();
  const answer = await fetch(`http://127.0.0.1:${server.getMappedPort(80)}/`);
  assert.strictEqual(await answer.text(), "served\n");
  const read = await server.exec(["sh", "-c", "cat /etc/copied; echo err >&2; exit 3"]);
  assert.deepStrictEqual([read.exitCode, read.stdout, read.stderr], [3, "copied", "err\n"]);
  const archive = await server.copyArchiveFromContainer("/w/index.html");
  assert.ok((await archive.toArray()).length > 0);

  // It stays: its wait follows the log, and asks afterwards whether the container is there.
  const client = await new GenericContainer("busybox")
    .withCommand(["sh", "-c", "busybox wget -q -O - http://server/ && echo asked; exec sleep 1000"])
    .withNetwork(network)
    .withWaitStrategy(Wait.forLogMessage("asked"))
    .start();
  const log = await client.logs();
  const lines = [];
  await new Promise((resolve) => log.on("data", (line) => lines.push(String(line)) === 2 && resolve()));
  assert.deepStrictEqual(lines, ["served\n", "asked\n"]);
  log.destroy();

  const short = await new GenericContainer("busybox").withCommand(["true"]).withWaitStrategy(Wait.forOneShotStartup()).start();
  await server.restart({ timeout: 0 });
  assert.strictEqual((await server.exec(["cat", "/etc/copied"])).output, "copied");
  const kept = await server.commit({ repo: "kept", tag: "1", deleteOnExit: false });
  assert.match(kept, /^[a-z0-9:]+$/);
  for (const one of [short, client, server]) await one.stop();
  await network.stop();
  clearInterval(alive);
  console.log("all done");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
