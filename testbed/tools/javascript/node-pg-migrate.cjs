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
    // A failed run's lock may still be held: the server may not have noticed yet that the connection is closed.
    advisoryLockMode: "wait",
    ...options,
  });
}

// node-pg-migrate has no status command: list what it would undo, which begins with the newest.
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
