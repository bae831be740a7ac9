const { readdirSync } = require("node:fs");
const { join, resolve } = require("node:path");
const { DataSource, MigrationExecutor } = require("typeorm");

// Connect with the first `count` migrations: TypeORM has no command that applies only some.
async function connected(work, count = Infinity) {
  // All of them by a pattern, as in TypeORM's documentation.
  const files = count === Infinity ? [join("**", "*.js")] : readdirSync("migrations").sort().slice(0, count);
  const source = new DataSource({
    type: "postgres",
    url: process.env.DATABASE_URL,
    migrations: files.map((file) => resolve("migrations", file)),
    migrationsTransactionMode: "each",
    logging: false,
  });
  await source.initialize();
  try {
    return await work(source);
  } finally {
    await source.destroy();
  }
}

require("./serve.cjs")({
  to: ({ count }) => connected((source) => source.runMigrations(), count),
  all: () => connected((source) => source.runMigrations()),
  down: () => connected((source) => source.undoLastMigration()),
  status: async () =>
    (await connected((source) => new MigrationExecutor(source).getExecutedMigrations())).map(({ name }) => name).reverse(),
  close: () => {},
});
