const { mkdirSync, readFileSync, writeFileSync, cpSync } = require("node:fs");
const { drizzle } = require("drizzle-orm/node-postgres");
const { migrate } = require("drizzle-orm/node-postgres/migrator");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.DATABASE_URL });

// It has no command that applies some of them: the journal is what it goes by.
async function apply(count = Infinity) {
  cpSync("migrations", "some", { recursive: true });
  const journal = JSON.parse(readFileSync("migrations/meta/_journal.json", "utf8"));
  mkdirSync("some/meta", { recursive: true });
  writeFileSync("some/meta/_journal.json", JSON.stringify({ ...journal, entries: journal.entries.slice(0, count) }));
  await migrate(drizzle(pool), { migrationsFolder: "some" });
}

require("./serve.cjs")({
  to: ({ count }) => apply(count),
  all: () => apply(),
  // It has no status either; what it looks at is the newest of these.
  status: async () => {
    const found = await pool.query("select to_regclass('drizzle.__drizzle_migrations') is not null as there");
    if (!found.rows[0].there) return [];
    return (await pool.query("select created_at from drizzle.__drizzle_migrations order by created_at")).rows.map((row) => row.created_at);
  },
  close: () => pool.end(),
});
