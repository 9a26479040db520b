// Says whether this Node is one of the supported ones.
const semver = require("semver");
const colors = require("picocolors").createColors(false);

console.log(colors.green(semver.satisfies(process.version, ">=18") ? "hello node" : "too old"));
