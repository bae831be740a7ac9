const { mkdirSync, readFileSync, writeFileSync, cpSync } = require("node:fs");
const { drizzle } = require("drizzle-orm/node-postgres");
const { migrate } = require("drizzle-orm/node-postgres/migrator");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.DATABASE_URL });

// Drizzle has no command that applies only some migrations. It applies those of the journal: shorten that.
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
  // Nor does it list what it has applied; it compares the journal with the newest of these rows.
  status: async () => {
    const found = await pool.query("select to_regclass('drizzle.__drizzle_migrations') is not null as there");
    if (!found.rows[0].there) return [];
    return (await pool.query("select created_at from drizzle.__drizzle_migrations order by created_at")).rows.map((row) => row.created_at);
  },
  close: () => pool.end(),
});
