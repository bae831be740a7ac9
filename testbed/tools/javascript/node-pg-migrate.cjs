const quiet = { debug() {}, info() {}, warn() {}, error() {} };

async function run(options) {
  const { runner } = await import("node-pg-migrate");
  return runner({
    databaseUrl: process.env.DATABASE_URL,
    dir: "migrations",
    migrationsTable: "pgmigrations",
    direction: "up",
    count: Infinity,
    ignorePattern: "(?:\\..*|helper.*)",
    logger: quiet,
    // Of a run that failed, the server may not have noticed yet that its connection is closed.
    advisoryLockMode: "wait",
    ...options,
  });
}

// It has no command for it: what it would undo, newest first.
const status = async () => (await run({ direction: "down", dryRun: true })).map(({ name }) => name).reverse();

require("./serve.cjs")({
  to: async ({ count }) => {
    const missing = count - (await status()).length;
    if (missing > 0) await run({ count: missing });
  },
  all: () => run({}),
  down: () => run({ direction: "down", count: 1 }),
  status,
  close: () => {},
});
