// Prisma's command line with the schema engine that its package brings, compiled to WebAssembly: the native one comes
// from a server of Prisma's own. `migrate resolve` asks the native one, and is done by hand in the test.
const { spawnSync } = require("node:child_process");
const { cpSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } = require("node:fs");

writeFileSync("schema.prisma", 'datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n');
writeFileSync(
  "prisma.config.mjs",
  `import { createRequire } from "node:module";
import { PrismaPg } from "@prisma/adapter-pg";

// This version's adapter does not know the type of the catalogue's names, which the engine asks for: they are texts.
const Result = createRequire(import.meta.url)("pg/lib/result");
const { addFields } = Result.prototype;
Result.prototype.addFields = function (fields) {
  return addFields.call(this, fields.map((field) => Object.assign(field, { dataTypeID: field.dataTypeID === 19 ? 25 : field.dataTypeID })));
};

// The engine limits the wait for its lock by a timer of ten seconds, and does not clear the timer when it has the lock.
// Unless it is unref'd, the process lives until the timer fires.
const { setTimeout: timer } = globalThis;
globalThis.setTimeout = (work, wait, ...rest) => (wait >= 10000 ? timer(work, wait, ...rest).unref() : timer(work, wait, ...rest));

export default {
  schema: "schema.prisma",
  experimental: { adapter: true },
  engine: "js",
  migrations: { path: "some" },
  adapter: async () => new PrismaPg({ connectionString: process.env.DATABASE_URL, allowExitOnIdle: true }),
};
`,
);

function run(command) {
  const nothing = require.resolve("./package.json"); // any file that exists, so that no engine is downloaded
  const env = {
    ...process.env,
    CHECKPOINT_DISABLE: "1",
    NO_COLOR: "1",
    PRISMA_HIDE_UPDATE_MESSAGE: "1",
    PRISMA_QUERY_ENGINE_LIBRARY: nothing,
    PRISMA_SCHEMA_ENGINE_BINARY: nothing,
  };
  return spawnSync("node", ["node_modules/prisma/build/index.js", "migrate", command], { env, encoding: "utf8" });
}

// Show Prisma only the first `count` migrations: it has no command that applies only some.
function show(count = Infinity) {
  rmSync("some", { recursive: true, force: true });
  if (count === Infinity) cpSync("migrations", "some", { recursive: true, verbatimSymlinks: true });
  else mkdirSync("some");
  writeFileSync("some/migration_lock.toml", 'provider = "postgresql"\n');
  for (const name of names().slice(0, count === Infinity ? 0 : count)) cpSync(`migrations/${name}`, `some/${name}`, { recursive: true });
}

const names = (directory = "migrations") =>
  existsSync(directory) ? readdirSync(directory).filter((name) => /^\d/.test(name)).sort() : [];

function deploy(count) {
  show(count);
  if (count === 0) return;
  const done = run("deploy");
  if (done.status !== 0) throw new Error(done.stderr);
}

require("./serve.cjs")({
  to: ({ count }) => deploy(count),
  all: () => deploy(),
  // All migrations that it was shown, without those that it lists as pending or failed.
  status: async () => {
    const { stdout, stderr } = run("status");
    const listed = new Set([...`${stdout}\n${stderr}`.matchAll(/^\s*(\d{14}_\w+)\s*$/gm)].map(([, name]) => name));
    return names("some").filter((name) => !listed.has(name));
  },
  close: () => {},
});
